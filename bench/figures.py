"""Statistics of a run. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The rounds' figures for one thing."""

    median: float
    low: float
    high: float


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least this share of all samples does not exceed (nearest rank).

    NaN where there is no sample.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is not above 0 and at most 1")
    if not samples:
        return math.nan
    return sorted(samples)[math.ceil(share * len(samples)) - 1]


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(values: Sequence[float], references: Sequence[float]) -> Spread:
    """The spread of the ratios round by round.

    Rounds are compared with their own reference: what disturbs the machine for a while disturbs
    both.
    """
    return spread([value / reference for value, reference in zip(values, references, strict=True)])
