"""The work queue, with a clock that the test turns."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from operator_waiting import until
from sagepool_kube.errors import Unavailable
from sagepool_operator.queue import WorkQueue


class Timer:
    """Calls that were put off, made when the test lets time pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self._calls: list[tuple[float, Callable[[], None], Call]] = []

    def later(self, delay_s: float, call: Callable[[], None]) -> "Call":
        handle = Call()
        self._calls.append((self.now + delay_s, call, handle))
        return handle

    def clock(self) -> float:
        return self.now

    def waits(self) -> list[float]:
        return sorted(at - self.now for at, _, h in self._calls if not h.is_cancelled)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [c for c in self._calls if c[0] <= self.now]
        self._calls = [c for c in self._calls if c[0] > self.now]
        for _, call, handle in due:
            if not handle.is_cancelled:
                call()


class Call:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Work:
    """Records what it is called for; holds on until released, fails when told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.running = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.again_s: float | None = None

    async def __call__(self, key: str) -> float | None:
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        await self.gate.wait()
        self.running -= 1
        self.done.append(key)
        if self.error is not None:
            raise self.error
        return self.again_s


@asynccontextmanager
async def working(queue: WorkQueue[str], workers: int = 2) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(queue.run()) for _ in range(workers)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def idle(queue: WorkQueue[str]) -> None:
    await until(lambda: not queue.depth)


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
async def work() -> Work:
    return Work()


@pytest.fixture
async def queue(work: Work, timer: Timer) -> WorkQueue[str]:
    return WorkQueue(work, later=timer.later, clock=timer.clock, rng=Random(1))


async def test_key_that_is_added_often_is_worked_on_once(queue: WorkQueue[str], work: Work) -> None:
    for _ in range(5):
        queue.add("a")
    async with working(queue):
        await idle(queue)
    assert work.done == ["a"]


async def test_one_key_is_never_worked_on_twice_at_once(queue: WorkQueue[str], work: Work) -> None:
    work.gate.clear()
    async with working(queue, workers=3):
        queue.add("a")
        await until(lambda: work.running == 1)
        queue.add("a")
        queue.add("a")
        work.gate.set()
        await idle(queue)
    assert work.most_at_once == 1
    assert work.done == ["a", "a"]


async def test_different_keys_are_worked_on_at_once(queue: WorkQueue[str], work: Work) -> None:
    work.gate.clear()
    async with working(queue, workers=2):
        queue.add("a")
        queue.add("b")
        await until(lambda: work.running == 2)
        work.gate.set()
        await idle(queue)
    assert sorted(work.done) == ["a", "b"]


async def test_failures_are_retried_later_and_later(
    queue: WorkQueue[str], work: Work, timer: Timer
) -> None:
    work.error = Unavailable("down")
    waits = []
    async with working(queue):
        queue.add("a")
        for _ in range(12):
            await idle(queue)
            (wait,) = timer.waits()
            waits.append(wait)
            timer.advance(wait)
    for failures, wait in enumerate(waits, start=1):
        whole = min(60.0, 0.5 * 2 ** (failures - 1))
        assert whole / 2 <= wait <= whole


async def test_success_forgets_earlier_failures(
    queue: WorkQueue[str], work: Work, timer: Timer
) -> None:
    async with working(queue):
        for _ in range(2):
            work.error = Unavailable("down")
            queue.add("a")
            await idle(queue)
            assert timer.waits()[0] <= 0.5
            work.error = None
            timer.advance(1)
            await idle(queue)


async def test_bug_in_one_key_stops_no_other(
    queue: WorkQueue[str], work: Work, timer: Timer, caplog: pytest.LogCaptureFixture
) -> None:
    work.error = TypeError("a bug")
    async with working(queue, workers=1):
        queue.add("a")
        await idle(queue)
        work.error = None
        queue.add("b")
        await idle(queue)
    assert work.done == ["a", "b"]
    (record,) = caplog.records
    assert record.exc_info is not None


async def test_outage_is_logged_in_one_sentence(
    queue: WorkQueue[str], work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    work.error = Unavailable("connection refused")
    async with working(queue):
        queue.add("a")
        await idle(queue)
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.__dict__["pool"] == "a"
    assert record.__dict__["error"] == "connection refused"


async def test_work_may_ask_to_be_done_again(
    queue: WorkQueue[str], work: Work, timer: Timer
) -> None:
    work.again_s = 7.0
    async with working(queue):
        queue.add("a")
        await idle(queue)
        assert timer.waits() == [7.0]
        timer.advance(7)
        await idle(queue)
    assert work.done == ["a", "a"]


async def test_shortest_of_several_waits_counts(queue: WorkQueue[str], timer: Timer) -> None:
    queue.add_after("a", 10)
    queue.add_after("a", 3)
    queue.add_after("a", 30)
    assert timer.waits() == [3]
    queue.close()
    assert timer.waits() == []
