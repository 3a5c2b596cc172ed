"""`python -m bench.simulation.several`: what it costs that the routers of a pool do not talk.

Each has a scheduler, a queue and what it has learnt of its own; engines are the same for all. A
request comes to one of them by chance, as the Service of a pool spreads connections.
"""

import sys
from collections.abc import Sequence
from typing import Final

from bench.report import format_table
from bench.simulation.figures import summarise
from bench.simulation.pools import POOLS
from bench.simulation.prefixes import Shape, simulate_prefixes
from bench.simulation.runner import Contender, Run, simulate
from bench.simulation.traffic import MIXES
from sagepool_router.scheduling.settings import SchedulingSettings

COUNTS: Final = (1, 2, 4)
SEEDS: Final = (1, 2, 3)
SECONDS: Final = 60.0
SHAPES: Final = (
    Shape(instances=10, prefixes=24, load=0.6, is_skewed=True),
    Shape(instances=10, prefixes=64, load=0.3),
)
_PREFIX_SEEDS: Final = (1, 2)
_REQUESTS: Final = 5000
_HYBRID: Final = SchedulingSettings(policy="hybrid")


def render_mixes(seeds: Sequence[int], seconds: float) -> str:
    """Both kinds on every pool, by the number of routers."""
    mix = next(mix for mix in MIXES if mix.name == "50/50")
    rows = []
    for pool in POOLS:
        for count in COUNTS:
            contender = Contender(_HYBRID.policy, _HYBRID, routers=count)
            runs = [simulate(Run(pool, mix, seconds, seed), contender) for seed in seeds]
            found = summarise(runs, seconds)
            texts = found.embedding
            rows.append(
                [
                    pool.name,
                    str(count),
                    f"{found.ttft_p50_ms:.0f} / {found.ttft_p99_ms:.0f}",
                    f"{found.chat.done_per_s:.1f}",
                    f"{found.texts_per_s:.0f}",
                    f"{texts.duration_p50_ms:,.0f} / {texts.duration_p99_ms:,.0f}",
                ]
            )
    titles = ("routers", "TTFT p50 / p99 ms", "chats/s", "texts/s", "embedding p50 / p99 ms")
    return format_table(["pool", *titles], rows)


def render_prefixes(seeds: Sequence[int], requests: int) -> str:
    """Prompts that begin alike, by the number of routers; the worse figure of the seeds."""
    rows = []
    for shape in SHAPES:
        for count in COUNTS:
            found = [simulate_prefixes(shape, seed, requests, routers=count) for seed in seeds]
            rows.append(
                [
                    f"{shape.instances}",
                    f"{shape.prefixes}",
                    f"{100 * shape.load:.0f} %",
                    str(count),
                    f"{100 * min(outcome.warm for outcome in found):.1f}",
                    f"{max(outcome.busiest for outcome in found):.2f}",
                ]
            )
    titles = ("prefixes", "load", "routers", "warm %", "busiest / mean")
    return format_table(["engines", *titles], rows)


def main() -> int:
    """Print both tables."""
    print(render_mixes(SEEDS, SECONDS), end="\n\n", flush=True)
    print(render_prefixes(_PREFIX_SEEDS, _REQUESTS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
