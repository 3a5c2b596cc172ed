"""Operators that compete for a Lease in made-up time, each over a line that can fail."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kube_fake import FakeKube
from router_memory_loop import MemoryLoop
from sagepool_kube.api import Kind, Object, WatchEvent
from sagepool_kube.errors import Unavailable
from sagepool_operator.config import LeaseName
from sagepool_operator.election import Pace
from sagepool_operator.leader import Leader

LEASE = LeaseName("sagepool-system", "sagepool-operator")
PACE = Pace(lease_s=10)


class Line:
    """One operator's connection to the API server."""

    def __init__(self, kube: FakeKube) -> None:
        self._kube = kube
        self.is_cut = False
        """Every call fails at once."""
        self.hangs = False
        """No call comes through."""
        self.loses_answers = False
        """Writes come through, their answers do not."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        await self._enter()
        return await self._kube.get(kind, namespace, name)

    async def create(self, kind: Kind, namespace: str | None, obj: Object) -> Object:
        await self._enter()
        return await self._answer(await self._kube.create(kind, namespace, obj))

    async def apply(self, kind: Kind, namespace: str | None, obj: Object, **how: Any) -> Object:
        await self._enter()
        return await self._answer(await self._kube.apply(kind, namespace, obj, **how))

    async def watch(
        self, kind: Kind, namespace: str | None, **how: Any
    ) -> AsyncGenerator[WatchEvent, None]:
        await self._enter()
        async for event in self._kube.watch(kind, namespace, **how):
            await self._enter()
            yield event

    async def _enter(self) -> None:
        if self.is_cut:
            raise Unavailable("connection refused")
        if self.hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(0.01)

    async def _answer(self, obj: Object) -> Object:
        if self.loses_answers:
            await asyncio.Event().wait()
        return obj


@dataclass
class Candidate:
    """An operator, when it worked, and its line."""

    name: str
    line: Line
    task: asyncio.Task[None] | None = None
    leader: Leader | None = None
    spans: list[tuple[float, float]] = field(default_factory=list)
    """From when to when it worked; the last one may be going on."""

    @property
    def is_working(self) -> bool:
        return bool(self.spans) and self.spans[-1][1] == float("inf")

    async def work(self) -> None:
        """Work until cancelled; note from when to when."""
        loop = asyncio.get_running_loop()
        self.spans.append((loop.time(), float("inf")))
        try:
            await asyncio.Event().wait()
        finally:
            self.spans[-1] = (self.spans[-1][0], loop.time())

    async def stop(self) -> None:
        """As SIGTERM does."""
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task

    async def die(self) -> None:
        """As SIGKILL does: nothing is said any more."""
        self.line.is_cut = True
        await self.stop()


def candidate(kube: FakeKube, name: str, *, clock: Callable[[float], float] = float) -> Candidate:
    """One that has begun to take part; `clock` is its clock, by the loop's."""
    loop = asyncio.get_running_loop()
    one = Candidate(name, Line(kube))
    one.leader = Leader(
        one.line,  # type: ignore[arg-type]  # what the leader calls of it
        LEASE,
        name,
        PACE,
        clock=lambda: clock(loop.time()),
        now=lambda: datetime.fromtimestamp(loop.time(), UTC),
    )
    one.task = asyncio.create_task(one.leader.run(one.work))
    return one


async def seconds_until(condition: Callable[[], bool], limit_s: float = 60.0) -> float:
    """How long it takes until the condition holds, to a hundredth. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - made-up time costs nothing
            await asyncio.sleep(0.01)
    return loop.time() - began


def overlaps(candidates: list[Candidate]) -> list[tuple[str, str, float]]:
    """Where two candidates worked at the same time, and from when on."""
    spans = sorted((b, e, c.name) for c in candidates for b, e in c.spans)
    return [
        (one[2], other[2], other[0])
        for one, other in itertools.pairwise(spans)
        if other[0] < one[1]
    ]


def in_made_up_time(story: Coroutine[Any, Any, None]) -> None:
    """Run a test's story on a loop whose clock jumps."""
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        runner.run(story)
