"""Processes that start one after another and end together, kept running."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from sagepool.laptop.backoff import Backoff
from sagepool.laptop.keeper import Keeper


class Unit:
    """One process, or the two engines of one instance that share GPUs.

    Two start one after another, since each measures the GPU's free memory when it starts, and end
    together, so that the first one measures again without the other.

    Args:
        keepers: of its processes, in the order of their start.
        clock: seconds, monotonic.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        keepers: Sequence[Keeper],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.keepers: Final = tuple(keepers)
        self.backoff: Final = Backoff()
        self.culprit = self.keepers[0]
        """The one that ended first the last time."""
        self._clock = clock
        self._sleep = sleep

    @property
    def name(self) -> str:
        """That of its first process, and of its instance."""
        return self.keepers[0].part.name

    @property
    def is_stable(self) -> bool:
        """Whether all of its processes have been ready."""
        return all(keeper.is_stable.is_set() for keeper in self.keepers)

    async def run(self, predecessors: Sequence[Keeper] = ()) -> None:
        """Keep them running until cancelled; the first starts when the predecessors have been
        ready."""
        for predecessor in predecessors:
            for keeper in self.keepers:
                keeper.say("waiting", f"{predecessor.part.name} loads on the same GPU first")
            await predecessor.is_stable.wait()
        while True:
            began = self._clock()
            ended = await self._run_once()
            delay_s = self.backoff.next_delay_s(self._clock() - began)
            for keeper, why in ended.items():
                keeper.rest(f"{why}; it starts again in {delay_s:g} s")
            await self._sleep(delay_s)

    async def _run_once(self) -> dict[Keeper, str]:
        """From the first start to the last end; returns why each has ended, the culprit first."""
        running: dict[asyncio.Task[str], Keeper] = {}
        try:
            for keeper in self.keepers:
                await self._wait_for_former(keeper, running)
                if any(task.done() for task in running):
                    break
                running[asyncio.create_task(keeper.run())] = keeper
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            first = next(task for task in running if task in done)
            self.culprit = running[first]
            await asyncio.gather(*(k.end() for task, k in running.items() if task is not first))
            await asyncio.wait(running)
            ended = {self.culprit: first.result()}
            for task, keeper in running.items():
                task.result()
                ended.setdefault(keeper, f"it ended with {self.culprit.part.name}")
            return ended
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _wait_for_former(
        self, keeper: Keeper, running: dict[asyncio.Task[str], Keeper]
    ) -> None:
        """Until those that started before are ready, or one of them has ended."""
        for former in running.values():
            keeper.say("waiting", f"{former.part.name} loads first")
            ready = asyncio.create_task(former.is_ready.wait())
            try:
                await asyncio.wait([ready, *running], return_when=asyncio.FIRST_COMPLETED)
            finally:
                ready.cancel()
