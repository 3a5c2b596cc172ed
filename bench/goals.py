"""What the router must reach, most of it as a ratio to another router in the same run. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.figures import Spread, ratios, spread
from bench.measure import Sample, Samples
from bench.peers import VLLM_ROUTER
from bench.starts import Start, Starts
from bench.targets import BARE, DIRECT, ROUTER

NEEDED_TARGETS: Final = frozenset({DIRECT, BARE, ROUTER, VLLM_ROUTER})
NEEDED_WORKLOADS: Final = frozenset({"chat", "paced", "half", "embedding", "long"})


@dataclass(frozen=True, slots=True)
class Results:
    """All that a run has measured."""

    samples: Samples
    starts: Starts


@dataclass(frozen=True, slots=True)
class Goal:
    """The most that a figure of the router may be, by the median of the rounds."""

    figure: str
    at_most: float
    unit: str
    read: Callable[[Results], Spread | None]
    """None where what it needs was not measured."""


def _ratio(workload: str, reference: str) -> Callable[[Results], Spread | None]:
    """CPU time of the router a unit, times that of another target."""

    def read(results: Results) -> Spread | None:
        own, others = (
            [sample.cpu_us for sample in results.samples.get((workload, name), ())]
            for name in (ROUTER, reference)
        )
        return ratios(own, others) if own and len(own) == len(others) else None

    return read


def _sampled(workload: str, field: Callable[[Sample], float]) -> Callable[[Results], Spread | None]:
    def read(results: Results) -> Spread | None:
        values = [field(sample) for sample in results.samples.get((workload, ROUTER), ())]
        return None if not values or any(map(math.isnan, values)) else spread(values)

    return read


def _started(field: Callable[[Start], float]) -> Callable[[Results], Spread | None]:
    def read(results: Results) -> Spread | None:
        values = [field(start) for start in results.starts.get(ROUTER, ())]
        return spread(values) if values else None

    return read


_TIMES: Final = f"x {VLLM_ROUTER}"

GOALS: Final = (
    Goal("CPU a chat request", 0.7, _TIMES, _ratio("chat", VLLM_ROUTER)),
    Goal("CPU a paced chunk", 0.9, _TIMES, _ratio("paced", VLLM_ROUTER)),
    Goal("added to the first token, p50", 5, "ms", _sampled("paced", lambda s: s.added_p50_ms)),
    Goal("added to the first token, p99", 15, "ms", _sampled("paced", lambda s: s.added_p99_ms)),
    Goal("CPU an embedded text", 0.7, _TIMES, _ratio("embedding", VLLM_ROUTER)),
    Goal("engine calls a text", 1 / 8, "calls", _sampled("embedding", lambda s: s.engine_calls)),
    Goal("added at half of its limit, p99", 3, "ms", _sampled("half", lambda s: s.added_p99_ms)),
    Goal("CPU a prompt of 400 KB", 2, f"x {BARE}", _ratio("long", BARE)),
    Goal("CPU from start to first answer", 1.3, "s", _started(lambda start: start.cpu_s)),
    Goal("memory at first answer", 100, "MB", _started(lambda start: start.rss_bytes / 1e6)),
)


def misses(results: Results, goals: Sequence[Goal] = GOALS) -> list[str]:
    """Return a sentence for each goal that the router misses; those not measured are left out."""
    sentences = []
    for goal in goals:
        values = goal.read(results)
        if values is not None and values.median > goal.at_most:
            sentences.append(
                f"{goal.figure}: {values.median:.3g} {goal.unit}, the goal is "
                f"{goal.at_most:g} at most"
            )
    return sentences
