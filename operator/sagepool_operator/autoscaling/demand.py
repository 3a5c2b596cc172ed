"""What a group is wanted for, over all routers of its pool. Pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

RECENT_S: Final = 15.0
"""Answers of so long are looked at together."""
_MIN_ANSWERS: Final = 10
"""Fewer say nothing about the slowest tenth."""
_QUANTILE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Demand:
    """What routers report of a group, or one of them."""

    in_flight: int = 0
    """Calls that its engines have."""
    capacity: int = 0
    """Calls that its engines may have now, each no more than the one that takes fewest."""
    queued_requests: int = 0
    queued_texts: int = 0
    idle_s: float = 0.0
    """Since anybody wanted it."""
    unmet_s: float | None = None
    """Since a request came that no engine could take; None: there was none."""
    ttft_s: float | None = None
    """Time within which nine of ten answers of late have begun; None: too few to say."""
    is_whole: bool = True
    """Every router has reported; else there may be more than is known."""

    @property
    def is_idle(self) -> bool:
        """Whether no request waits and none is under way."""
        return not (self.in_flight or self.queued_requests or self.queued_texts)


def add(reports: Sequence[Demand], ttft_s: float | None, *, is_whole: bool) -> Demand:
    """What routers say together: each knows only its own requests, so they add up."""
    unmet = [r.unmet_s for r in reports if r.unmet_s is not None]
    return Demand(
        in_flight=sum(r.in_flight for r in reports),
        capacity=sum(r.capacity for r in reports),
        queued_requests=sum(r.queued_requests for r in reports),
        queued_texts=sum(r.queued_texts for r in reports),
        idle_s=min((r.idle_s for r in reports), default=0.0),
        unmet_s=min(unmet, default=None),
        ttft_s=ttft_s,
        is_whole=is_whole and bool(reports),
    )


def slowest_tenth_s(bounds: Sequence[float], counts: Sequence[int]) -> float | None:
    """The time within which nine of ten answers have begun.

    Interpolates within a bucket, as Prometheus' `histogram_quantile` does; what lies above all
    bounds counts as the highest.

    Args:
        bounds: upper bounds of the buckets in seconds, rising.
        counts: answers in each, and at last those above all bounds.

    Returns:
        None when there are too few answers to say.
    """
    total = sum(counts)
    if total < _MIN_ANSWERS:
        return None
    rank, below, lower = _QUANTILE * total, 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below, lower = below + count, bound
    return lower


class FirstBytes:
    """The answers of the last while, from a router's counts since its start."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, tuple[int, ...]]] = deque()

    def note(self, now_s: float, counts: tuple[int, ...]) -> tuple[int, ...]:
        """Take in the present counts; returns those of the last `RECENT_S`."""
        last = self._counts[-1][1] if self._counts else counts
        if sum(counts) < sum(last) or len(counts) != len(last):
            self._counts.clear()  # it counts anew
        self._counts.append((now_s, counts))
        while self._counts[0][0] < now_s - RECENT_S:
            self._counts.popleft()
        return tuple(b - a for a, b in zip(self._counts[0][1], counts, strict=True))
