"""Requests that flow in the background of a test, and what came of them."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from openai import AsyncOpenAI

from e2e_pool import CHAT_ALIAS, EMBEDDING_MODEL
from e2e_waiting import wait_until
from sagepool_demo.figures import Outcome
from sagepool_demo.traffic import Plan, Traffic

_TIMEOUT_S = 30.0
_STOP_LIMIT_S = 60.0


class BackgroundTraffic:
    """The demo's clients in a thread of their own. They never retry: every failure is seen."""

    def __init__(self, url: str, plan: Plan) -> None:
        """Ask the endpoint at `url` (without /v1)."""
        self._url = url
        self._plan = plan
        self._began = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @property
    def outcomes(self) -> list[Outcome]:
        """So far, in the order of their ends."""
        return [*self._traffic.outcomes]

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return self._traffic.elapsed_s

    def failures(self) -> Counter[str]:
        """Failed requests by reason."""
        return Counter(outcome.failure for outcome in self.outcomes if outcome.failure)

    def answered_by(self) -> Counter[str]:
        """Answered requests by instance."""
        return Counter(outcome.instance for outcome in self.outcomes if not outcome.failure)

    def wait_answers(self, *instances: str) -> None:
        """Return when each of the instances has answered something."""
        wait_until(
            lambda: set(instances) <= self.answered_by().keys(),
            f"{', '.join(instances)} answered nothing",
            limit_s=30,
            state=lambda: f"{self.answered_by()} {self.failures()}",
        )

    def wait_more(self, requests: int) -> None:
        """Return when so many more requests have ended than now."""
        target = len(self.outcomes) + requests
        wait_until(lambda: len(self.outcomes) >= target, "requests do not flow", limit_s=60)

    def start(self) -> None:
        """Return when every client has had an answer."""
        self._thread.start()
        assert self._began.wait(timeout=10), "the traffic did not begin"
        wait_until(self._traffic.flowing.is_set, "requests do not flow", state=self.failures)

    def stop(self) -> None:
        """Return when the requests under way have ended too."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=_STOP_LIMIT_S)
        assert not self._thread.is_alive(), "requests do not come to an end"

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with AsyncOpenAI(
            base_url=f"{self._url}/v1", api_key="none", max_retries=0, timeout=_TIMEOUT_S
        ) as openai:
            self._traffic = Traffic(openai, self._plan, Random(7), time.monotonic)
            self._began.set()
            await self._traffic.run(self._stop)


@contextmanager
def flowing_traffic(url: str, clients: int = 8) -> Iterator[BackgroundTraffic]:
    """Requests flow while inside; on leaving, those under way have ended."""
    plan = Plan(CHAT_ALIAS, EMBEDDING_MODEL, clients, shortest_pause_s=0.05, longest_pause_s=0.3)
    traffic = BackgroundTraffic(url, plan)
    traffic.start()
    try:
        yield traffic
    finally:
        traffic.stop()
