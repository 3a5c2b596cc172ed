"""`python -m bench.scheduling`: what the scheduler itself costs, in CPU time a request.

A request is submitted and finished: charge of its flow, choice, charge and release of its place.
With a queue, every end places the request that is due, and the next one takes its place behind the
others. Instances are doubles that only count, and their part is in the figures; making requests
is not.
"""

import gc
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, cast

from sagepool_crds.pool import Role
from sagepool_router.scheduling.embedding_work import EmbeddingWork
from sagepool_router.scheduling.lane import Lane
from sagepool_router.scheduling.placement import latency_class
from sagepool_router.scheduling.scheduler import Call, Instance, Scheduler
from sagepool_router.scheduling.settings import PolicyName, SchedulingSettings
from sagepool_router.scheduling.work import Work

POLICIES: Final[tuple[PolicyName, ...]] = (
    "fifo",
    "priority",
    "slo_aware",
    "cost_optimized",
    "adaptive",
    "hybrid",
)
SIZES: Final = (10, 100, 1000)
WAITING: Final = 500
PREFIXES: Final = 64
PLACES: Final = [random.Random(number).getrandbits(32) for number in range(PREFIXES)]
"""Keys of prompts that begin alike."""
GOAL_US: Final = 40.0
_REQUESTS: Final = 5000
_ROUNDS: Final = 5


class Engine(Instance):
    """An instance that only counts."""

    __slots__ = ()

    def __init__(self, number: int, kind: Role, capacity: int) -> None:
        super().__init__(f"engine-{number}", kind, capacity)
        self.latency_s = 0.2 + number % 3 / 10
        self.latency_class = latency_class(self.latency_s)
        self.price_per_hour = 1.0 + number % 2
        self.tokens_per_s = 1000.0

    def open_gate(self, is_open: bool) -> None:
        raise AssertionError("no GPU is shared here")


class _Nobody:
    """Takes every request at once and does nothing: what is left is the bench's own work."""

    def __init__(self, calls: list[Call[Engine]]) -> None:
        self._calls = calls
        self._call = calls[0]

    def submit(self, lane: Lane[Engine], work: Work[Engine]) -> None:
        self._calls.append(self._call)

    def finished(self, call: Call[Engine]) -> None:
        pass


class _NoTimer:
    def cancel(self) -> None:
        pass


class Bed:
    """A scheduler with engines of one kind and one model."""

    def __init__(
        self, policy: PolicyName, size: int, kind: Role, waiting: int, prefixes: int = 0
    ) -> None:
        self.prefixes = prefixes
        self.calls: list[Call[Engine]] = []
        self.kind: Role = kind
        self.random = random.Random(1)
        self.scheduler: Scheduler[Engine] = Scheduler(
            SchedulingSettings(policy=policy),
            start=self.calls.append,
            cut=_cut,
            clock=time.perf_counter,
            random=self.random.random,
            call_later=lambda _seconds, _call: _NoTimer(),
        )
        engines = [Engine(number, kind, 4 if waiting else 256) for number in range(size)]
        placements = self.scheduler.swap(
            self.scheduler.settings, {("model", kind): engines}, gpus={}
        )
        for placement in placements.values():
            for seat in placement.seats():
                seat.member.seats += (seat,)
        self.lane: Lane[Engine] = self.scheduler.lanes["model", kind]
        fill = 4 * size + waiting if waiting else size  # as busy as a pool is that copes
        for _ in range(fill):
            self.submit()

    def submit(self) -> None:
        make = EmbeddingWork if self.kind == "embedding" else Work
        work: Work[Engine] = make(
            self.kind,
            "model",
            time.perf_counter(),
            priority=int(5 * self.random.random()),
            flow=str(int(20 * self.random.random())),
            tokens=100,
            texts=1 if self.kind == "embedding" else 0,
            affinity=self._prefix() if self.prefixes else None,
        )
        self.scheduler.submit(self.lane, work)

    def _prefix(self) -> int:
        """One of the prefixes, the first ones far more often than the last."""
        return PLACES[int(self.prefixes * self.random.random() ** 3)]

    def finish(self) -> None:
        calls = self.calls
        index = int(self.random.random() * len(calls))
        calls[index], calls[-1] = calls[-1], calls[index]
        self.scheduler.finished(calls.pop())


def _cut(work: EmbeddingWork[Engine]) -> None:
    work.cut(b"", (work.tokens,) * work.texts)


def measure(bed: Bed) -> float:
    """CPU microseconds a request: the best round, less what the bench itself costs."""
    full = _lowest(bed.finish, bed.submit)
    bed.scheduler = cast("Scheduler[Engine]", _Nobody(bed.calls))
    return full - _lowest(bed.finish, bed.submit)


def _lowest(*steps: Callable[[], None]) -> float:
    rounds = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(_ROUNDS):
            began = time.process_time()
            for _ in range(_REQUESTS):
                for step in steps:
                    step()
            rounds.append((time.process_time() - began) / _REQUESTS * 1e6)
    finally:
        gc.enable()
    return min(rounds)


def _row(name: str, make: Callable[[int], Bed]) -> list[float]:
    figures = [measure(make(size)) for size in SIZES]
    cells = "".join(f"{figure:9.1f}" for figure in figures)
    print(f"{name:34}{cells}", flush=True)
    return figures


def main(arguments: Sequence[str] = ()) -> int:
    """Print the table; 1 if the goal is missed."""
    del arguments
    head = "".join(f"{size:9}" for size in SIZES)
    print(f"{'CPU us a request; instances':34}{head}", flush=True)
    worst = 0.0
    for waiting in (0, WAITING):
        for policy in POLICIES:
            figures = _row(
                f"{policy}, {waiting} waiting",
                lambda size, p=policy, w=waiting: Bed(p, size, "llm", w),  # type: ignore[misc]  # its defaults bind the loop
            )
            worst = max(worst, *figures)
        figures = _row(
            f"hybrid, {PREFIXES} prefixes, {waiting} waiting",
            lambda size, w=waiting: Bed("hybrid", size, "llm", w, PREFIXES),  # type: ignore[misc]  # its defaults bind the loop
        )
        worst = max(worst, *figures)
    print(f"worst {worst:.1f} us, goal {GOAL_US:g}")
    return int(worst > GOAL_US)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
