"""What the engine's metrics page says, in Prometheus' text format. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MetricNames:
    """Which metrics of the engine say what."""

    running: frozenset[str] = frozenset()
    """Gauges: requests that it computes."""
    waiting: frozenset[str] = frozenset()
    """Gauges: requests that wait in it."""
    usage: frozenset[str] = frozenset()
    """Gauges: share of the key-value cache in use, 0 to 1."""
    progress: frozenset[str] = frozenset()
    """Counters that grow with every request, also with one too short for any gauge to show."""


@dataclass(frozen=True, slots=True)
class Load:
    """The engine's figures at one moment."""

    running: int
    waiting: int
    kv_cache_usage: float
    progress: float
    """Means nothing by itself: another value says that requests have been worked on."""

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do."""
        return not (self.running or self.waiting)


def add_loads(loads: Iterable[Load]) -> Load:
    """The load of all of a pod's engines. Their caches are apart: the usage is the fullest one's,
    as of an engine with several cores."""
    loads = list(loads)
    return Load(
        running=sum(load.running for load in loads),
        waiting=sum(load.waiting for load in loads),
        kv_cache_usage=max((load.kv_cache_usage for load in loads), default=0.0),
        progress=sum(load.progress for load in loads),
    )


def read_load(page: str, names: MetricNames) -> Load:
    """Read the figures that have these names.

    Counts are summed over label sets, the cache's usage is the fullest one's. What the page lacks
    is zero: some engines show a metric only after the first request.
    """
    samples = [sample for line in page.splitlines() if (sample := _read_sample(line)) is not None]

    def of(wanted: frozenset[str]) -> Iterable[float]:
        return (value for name, value in samples if name in wanted)

    return Load(
        running=int(sum(of(names.running))),
        waiting=int(sum(of(names.waiting))),
        kv_cache_usage=max(of(names.usage), default=0.0),
        progress=sum(of(names.progress)),
    )


def _read_sample(line: str) -> tuple[str, float] | None:
    """Name and value of a line; None for comments and what cannot be read."""
    if not line or line[0] == "#":
        return None
    head, brace, tail = line.rpartition("}")
    if brace:
        name, fields = head.partition("{")[0], tail.split()
    else:
        name, *fields = line.split()
    try:
        value = float(fields[0])
    except (IndexError, ValueError):
        return None
    return (name, value) if math.isfinite(value) else None
