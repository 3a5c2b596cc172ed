"""One run: a pool, a mix and a policy, from the first arrival to the last end."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.simulation.clock import Clock
from bench.simulation.costs import Costs
from bench.simulation.divided import DividedRouter
from bench.simulation.plain import PlainRouter, Router
from bench.simulation.pools import EngineAt, Pool, build_engines
from bench.simulation.scheduled import ScheduledRouter
from bench.simulation.traffic import Mix, Rates, Request, build_requests
from sagepool_router.scheduling.settings import PolicyName, SchedulingSettings

POLICIES: Final[tuple[PolicyName, ...]] = (
    "hybrid",
    "adaptive",
    "slo_aware",
    "priority",
    "cost_optimized",
    "fifo",
)
BASELINES: Final = ("round robin", "least loaded")


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to route, by the name that the tables give it; None: a baseline of that name."""

    name: str
    settings: SchedulingSettings | None = None
    routers: int = 1
    """That share the requests."""


CONTENDERS: Final = (
    *(Contender(name, SchedulingSettings(policy=name)) for name in POLICIES),
    *(Contender(name) for name in BASELINES),
)


@dataclass(frozen=True, slots=True)
class Run:
    """What is simulated."""

    pool: Pool
    mix: Mix
    seconds: float
    seed: int
    costs: Costs = field(default_factory=Costs)

    @property
    def rates(self) -> Rates:
        """Requests a second of each kind."""
        return self.pool.rates(self.mix, self.costs)


def simulate(
    run: Run, contender: Contender, *, chats: bool = True, embeddings: bool = True
) -> list[Request]:
    """Let all requests arrive and end; returns them in the order of their arrival.

    Args:
        run: what is simulated.
        contender: who routes.
        chats: False leaves them out.
        embeddings: False leaves them out.
    """
    rates = run.rates
    wanted = Rates(rates.chats if chats else 0.0, rates.embeddings if embeddings else 0.0)
    requests = build_requests(run.mix, wanted, run.seconds, run.seed)
    clock = Clock()
    router = _router(contender, build_engines(run.pool, clock, run.costs), clock, run.seed)
    arrivals = iter(requests)

    def arrive(request: Request) -> None:
        router.submit(request)
        plan()

    def plan() -> None:
        request = next(arrivals, None)
        if request is not None:
            clock.call_later(request.arrived_at - clock.now, lambda: arrive(request))

    plan()
    first_open = 0

    def is_over() -> bool:
        nonlocal first_open
        while first_open < len(requests) and requests[first_open].outcome is not None:
            first_open += 1
        return first_open == len(requests)

    clock.run(is_over)
    return requests


def _router(contender: Contender, engines: Sequence[EngineAt], clock: Clock, seed: int) -> Router:
    source = random.Random(f"{contender.name} {seed}")
    if (settings := contender.settings) is not None:
        return DividedRouter(
            [
                ScheduledRouter(engines, clock, settings, source.random)
                for _ in range(contender.routers)
            ],
            random.Random(f"router {seed}").random,
        )
    is_round_robin = contender.name == "round robin"
    return PlainRouter(engines, clock, None if is_round_robin else source.random)
