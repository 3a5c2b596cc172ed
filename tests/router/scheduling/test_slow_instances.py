"""An instance that is slower than its peers gets less, and its share again when it has recovered.

The scheduler over live backends in simulated time: each instance computes eight requests at a time,
exponential service, and lets others wait; requests arrive at random (Poisson).
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest

from sagepool_crds.pool import Role
from sagepool_engines.dialects import EngineLoad
from sagepool_router.backend import LiveBackend
from sagepool_router.limits import Limits
from sagepool_router.scheduling.embedding_work import EmbeddingWork
from sagepool_router.scheduling.scheduler import Call, Scheduler
from sagepool_router.scheduling.settings import PolicyName, SchedulingSettings
from sagepool_router.scheduling.work import Work
from sagepool_router.table import Backend
from sagepool_router.upstream import CoarseClock
from simulator_clock import ManualClock

AT_ONCE: Final = 8
SLOWER: Final = 5.0
EQUAL_SHARE: Final = 0.25
POLICIES: tuple[PolicyName, ...] = (
    "hybrid",
    "adaptive",
    "slo_aware",
    "priority",
    "cost_optimized",
    "fifo",
)
LiveCall = Call[LiveBackend]


@dataclass
class Engine:
    """What computes behind a backend."""

    backend: LiveBackend
    service_s: float = 1.0
    """Of a request, on average."""
    running: int = 0
    waiting: deque[LiveCall] = field(default_factory=deque)


class Traffic:
    """Four instances, the first of them slow, and requests that arrive at random.

    Args:
        policy: of the pool.
        kind: of the instances and of all requests.
        load: the part of what all can do that is asked for, while the first is slow.
        prices: an hour, of each instance.
        seed: of arrivals and service.
    """

    def __init__(
        self,
        policy: PolicyName,
        kind: Role = "llm",
        *,
        load: float = 0.6,
        prices: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        seed: int = 1,
    ) -> None:
        self.clock = ManualClock()
        self.placed: list[LiveBackend] = []
        """Where each request went."""
        self._kind: Role = kind
        self._random = random.Random(seed)
        self._coarse_clock = CoarseClock()
        backends = [self._backend(number, price) for number, price in enumerate(prices)]
        self.engines = {backend: Engine(backend) for backend in backends}
        self.slow = self.engines[backends[0]]
        self.slow.service_s = SLOWER
        self._rate = load * AT_ONCE * (len(backends) - 1 + 1 / SLOWER)
        self._scheduler: Scheduler[LiveBackend] = Scheduler(
            SchedulingSettings(policy=policy),
            start=self._start,
            cut=lambda work: work.cut(b"", (work.tokens,)),
            clock=self.clock.time,
            random=self._random.random,
            call_later=self.clock.call_later,
        )
        placements = self._scheduler.swap(self._scheduler.settings, {("m", kind): backends}, {})
        for placement in placements.values():
            for seat in placement.seats():
                seat.member.join((seat,))
        self._sweep()
        self._sample()
        self._arrive()

    def _backend(self, number: int, price: float) -> LiveBackend:
        facts = Backend(
            instance=f"instance-{number}",
            uid=f"instance-{number}",
            role=self._kind,
            engine="vllm",
            scheme="http",
            host="engine",
            port=number + 1,
            prefix="",
            models=("m",),
            limit=256,
            device="",
            price_per_hour=price,
        )
        return LiveBackend(facts, Limits(), self._coarse_clock)

    def share(self, seconds: float) -> float:
        """Let time pass; returns the slow one's part of what was placed meanwhile."""
        before = len(self.placed)
        self.clock.advance(seconds)
        placed = self.placed[before:]
        return placed.count(self.slow.backend) / len(placed)

    def _arrive(self) -> None:
        self.clock.call_later(self._random.expovariate(self._rate), self._arrive)
        now = self.clock.now
        priority = self._random.choice((0, 1, 2, 3))
        work: Work[LiveBackend]
        if self._kind == "llm":
            work = Work("llm", "m", now, tokens=100, priority=priority)
        else:
            work = EmbeddingWork("embedding", "m", now, tokens=100, priority=priority, texts=1)
        self._scheduler.submit(self._scheduler.lanes["m", self._kind], work)

    def _start(self, call: LiveCall) -> None:
        self.placed += [call.place] * (len(call.slices) or 1)
        engine = self.engines[call.place]
        if engine.running < AT_ONCE:
            self._compute(engine, call)
        else:
            engine.waiting.append(call)

    def _compute(self, engine: Engine, call: LiveCall) -> None:
        engine.running += 1
        service_s = self._random.expovariate(1 / engine.service_s)
        self.clock.call_later(0.1 * service_s, lambda: self._scheduler.answered(call))
        self.clock.call_later(service_s, lambda: self._end(engine, call))

    def _end(self, engine: Engine, call: LiveCall) -> None:
        engine.running -= 1
        seconds = self.clock.now - call.placed_at
        call.lane.observe(seconds)
        engine.backend.completed(seconds, 100)
        engine.backend.observe_batch(seconds, 100, call.in_flight)
        self._scheduler.finished(call)
        if engine.waiting:
            self._compute(engine, engine.waiting.popleft())

    def _sweep(self) -> None:
        self._coarse_clock.now = self.clock.now
        self.clock.call_later(Limits().sweep_tick_s, self._sweep)
        for backend in self.engines:
            backend.sweep()
        self._scheduler.sweep()

    def _sample(self) -> None:
        self.clock.call_later(0.5, self._sample)
        for backend, engine in self.engines.items():
            if backend.in_flight:
                backend.observe_load(EngineLoad(engine.running, len(engine.waiting), 0.0))


@pytest.mark.parametrize(
    ("policy", "kind"),
    [*((policy, "llm") for policy in POLICIES), ("hybrid", "embedding")],
)
def test_a_slow_instance_gets_clearly_less_and_its_share_again_when_it_has_recovered(
    policy: PolicyName, kind: Role
) -> None:
    traffic = Traffic(policy, kind)
    traffic.share(10.0)
    assert traffic.share(50.0) < 0.6 * EQUAL_SHARE
    traffic.slow.service_s = 1.0
    traffic.share(60.0)
    assert traffic.share(90.0) > 0.6 * EQUAL_SHARE


@pytest.mark.parametrize("load", [0.1, 0.3])
def test_an_instance_that_latency_has_put_last_is_tried_again_with_little_traffic(
    load: float,
) -> None:
    traffic = Traffic("slo_aware", load=load)
    traffic.share(10.0)
    assert traffic.share(90.0) < 0.6 * EQUAL_SHARE
    traffic.slow.service_s = 1.0
    traffic.share(60.0)
    assert traffic.share(120.0) > 0.6 * EQUAL_SHARE


def test_an_instance_that_was_dear_by_the_token_is_tried_again() -> None:
    traffic = Traffic("cost_optimized", prices=(1.0, 2.0, 2.0, 2.0))
    traffic.share(10.0)
    assert traffic.share(50.0) < 0.6 * EQUAL_SHARE
    traffic.slow.service_s = 1.0
    traffic.share(60.0)
    assert traffic.share(90.0) > 0.3 * EQUAL_SHARE


@pytest.mark.parametrize("policy", ["slo_aware", "priority"])
def test_while_it_stays_slow_it_is_given_but_a_few_to_find_that_out(policy: PolicyName) -> None:
    traffic = Traffic(policy)
    traffic.share(60.0)
    shares = [traffic.share(20.0) for _ in range(6)]
    assert max(shares) < 0.6 * EQUAL_SHARE
    assert sum(shares) > 0
