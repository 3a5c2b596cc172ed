"""Prompts that begin alike, over engines that remember what they have read.

What an engine remembers is the simulator's own block cache: blocks of 16 tokens, the least
recently used given up first. The router is the scheduler that runs, as in all simulations here.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.simulation.clock import Clock
from bench.simulation.costs import Costs
from bench.simulation.divided import DividedRouter
from bench.simulation.engines import Chat, ChatEngine
from bench.simulation.gpu import Gpu
from bench.simulation.pools import EngineAt
from bench.simulation.scheduled import ScheduledRouter
from bench.simulation.traffic import Request
from sagepool_router.scheduling.affinity import Affinity
from sagepool_router.scheduling.settings import SchedulingSettings
from sagepool_simulator.kvcache import BlockCache

SHARED_TOKENS: Final = 512
"""Of a prompt: what it has in common with others."""
OWN_TOKENS: Final = 128
"""And what only it has."""
OUTPUT_TOKENS: Final = 128
"""On average; lengths are exponential."""
BLOCKS: Final = 4096
"""Of an engine's cache; a shared beginning has 32."""
SEQUENCES: Final = 64
"""That an engine computes at a time."""
_NORMAL: Final = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """A pool, and what is asked of it."""

    instances: int
    prefixes: int
    """0: no two prompts begin alike."""
    load: float
    """1 is what the engines could do if all beginnings were known."""
    is_skewed: bool = False
    """The second prefix is met half as often as the first, the third a third (Zipf)."""
    blocks: int = BLOCKS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run, engine by engine."""

    warm: float
    """The share of requests whose beginning was known where they came to; the first of each
    prefix, which is known nowhere, is not counted."""
    placed: tuple[int, ...]
    """Requests."""
    in_flight_s: tuple[float, ...]
    """The times of all its requests: over the run's, what it had in flight on average."""

    @property
    def busiest(self) -> float:
        """Of the busiest engine, the load over the mean: by number or by time, what is worse."""
        return max(_above_mean(self.placed), _above_mean(self.in_flight_s))


def _above_mean(loads: Sequence[float]) -> float:
    return max(loads) * len(loads) / sum(loads)


class _RememberingEngine(ChatEngine):
    """Reads of a prompt only what it does not know."""

    __slots__ = ("_cache", "_now", "in_flight_s", "placed", "warm")

    def __init__(self, clock: Clock, costs: Costs, gpu: Gpu, blocks: int) -> None:
        super().__init__(clock, costs, gpu)
        self._now = clock.read
        self._cache = BlockCache(blocks)
        self.placed = 0
        self.warm = 0
        self.in_flight_s = 0.0

    def accept(self, chat: Chat) -> None:
        """A request comes in."""
        began, end = self._now(), chat.on_end
        held = self._cache.allocate(chat.prompt, chat.output_tokens)
        if held is not None:
            chat.unread -= held.cached_tokens
            self.warm += held.cached_tokens >= SHARED_TOKENS

        def on_end() -> None:
            if held is not None:
                self._cache.release(held)
            self.in_flight_s += self._now() - began
            end()

        self.placed += 1
        chat.on_end = on_end
        super().accept(chat)


def simulate_prefixes(
    shape: Shape, seed: int, requests: int, *, has_affinity: bool = True, routers: int = 1
) -> Outcome:
    """Let so many requests arrive and end.

    Args:
        shape: of the pool.
        seed: another one is another run, and other names of the instances.
        requests: how many.
        has_affinity: False places all by load alone.
        routers: that share the requests.
    """
    clock, costs = Clock(), Costs(chat_sequences=SEQUENCES)
    engines = [
        _RememberingEngine(clock, costs, Gpu(clock, costs), shape.blocks)
        for _ in range(shape.instances)
    ]
    places = [EngineAt(f"chat-{seed}-{n}", f"gpu-{n}", engine) for n, engine in enumerate(engines)]
    chance = random.Random(f"placement {seed}").random
    router = DividedRouter(
        [ScheduledRouter(places, clock, SchedulingSettings(), chance) for _ in range(routers)],
        random.Random(f"router {seed}").random,
    )
    asked = _requests(shape, seed, requests, costs, has_affinity=has_affinity)
    for request in asked:
        clock.call_later(request.arrived_at, _submission(router, request))
    left = iter(asked)
    current = next(left, None)

    def is_over() -> bool:
        nonlocal current
        while current is not None and current.outcome is not None:
            current = next(left, None)
        return current is None

    clock.run(is_over)
    return Outcome(
        sum(engine.warm for engine in engines) / (requests - shape.prefixes),
        tuple(engine.placed for engine in engines),
        tuple(engine.in_flight_s for engine in engines),
    )


def _submission(router: DividedRouter, request: Request) -> Callable[[], None]:
    return lambda: router.submit(request)


def _requests(
    shape: Shape, seed: int, count: int, costs: Costs, *, has_affinity: bool
) -> list[Request]:
    chance = random.Random(f"prefixes {seed}")
    rate = shape.load * shape.instances * costs.chat_capacity(OWN_TOKENS, OUTPUT_TOKENS)
    keys = [chance.getrandbits(64) for _ in range(shape.prefixes)]
    weights = [1 / rank if shape.is_skewed else 1.0 for rank in range(1, shape.prefixes + 1)]
    numbers = chance.choices(range(shape.prefixes), weights, k=count) if keys else [0] * count
    strangers = random.Random(f"strangers {seed}")
    affinity = Affinity()
    found = []
    now = 0.0
    for order, number in enumerate(numbers, 1):
        now += chance.expovariate(rate)
        request = Request("llm", now, _NORMAL, SHARED_TOKENS + OWN_TOKENS)
        request.output_tokens = max(1, round(chance.expovariate(1 / OUTPUT_TOKENS)))
        own = -order * (SHARED_TOKENS + OWN_TOKENS)
        begin, shared = (number * SHARED_TOKENS, SHARED_TOKENS) if keys else (own, 0)
        request.prompt = (
            *range(begin, begin + shared),
            *range(own, own + SHARED_TOKENS + OWN_TOKENS - shared),
        )
        if has_affinity:
            beginning = keys[number] if keys else strangers.getrandbits(64)
            request.affinity = affinity.key((beginning, order), None)
        found.append(request)
    return found
