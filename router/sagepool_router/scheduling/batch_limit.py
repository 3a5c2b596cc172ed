"""How many embedding calls one instance has in flight. Pure.

More calls than an engine works on at a time bring nothing but latency; fewer leave it idle
between two calls. The number is found out from how long calls take.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final, TypeAlias

Point: TypeAlias = tuple[int, float]
"""A call's tokens and its latency."""
Line: TypeAlias = tuple[float, float]
"""What a call costs at least: seconds for itself and for each token."""

GROW_BELOW: Final = 0.75
SHRINK_ABOVE: Final = 2.25
"""An estimated queue of 1 to 2 is kept, with a quarter of slack for noise at the borders."""
FULL_GROW_BELOW: Final = 4.0
FULL_SHRINK_ABOVE: Final = 6.0
"""The same of full calls: they gain no company by waiting outside of the engine."""
ROUND_CALLS: Final = 8
"""Calls between two decisions, at least; twice the limit if that is more."""
WINDOW_PER_LIMIT: Final = 64
"""Calls in a window for each one that may be in flight: a probe costs the same part of each."""
SOLO_CALLS: Final = 2
"""Calls that found the engine empty: so many in each window."""


class BatchLimit:
    """The limit of one instance, by TCP Vegas (Brakmo and Peterson 1994).

    With n calls in flight, and latencies that are r times what they are without a queue, n(1-1/r)
    calls are waiting: the limit grows by one while that is below 1 and shrinks above 2 (as in
    Netflix's concurrency-limits). So few, because calls that gather outside are merged: where most
    are full already, 4 to 6 may wait, and an engine beside others on its GPU is never without work.

    What a call takes without a queue depends on its size: a fixed part and one for each token.
    It is the highest line that no call of late was below, at their mean size. Latencies and
    this line are summed over a round before they are compared: a short call behind a long one
    takes many times its own time, but the sum of both is right.

    The line counts calls of this window and the one before: it can rise again. While the engine
    is busy nobody sees it empty, and the queue of our own would come to be taken for the engine's
    own time; so each window that saw less than two calls alone ends with two that are (as BBR
    does; Cardwell and others 2016).
    """

    __slots__ = (
        "_base_s",
        "_calls",
        "_fastest",
        "_fastest_before",
        "_full_calls",
        "_high",
        "_in_flight",
        "_latency_s",
        "_limit",
        "_low",
        "_probe_calls",
        "_skipped",
        "_solo_calls",
        "_tokens",
        "_window_calls",
    )

    def __init__(self, low: int = 1, high: int = 8, start: int = 2) -> None:
        self._low = low
        self._high = high
        self._limit = start
        self._fastest: dict[int, tuple[Point, Point]] = {}
        """Of this window, by the tokens' order of magnitude: the fastest call, and the fastest
        for its tokens. Others are hardly ever what the line rests on."""
        self._fastest_before: dict[int, tuple[Point, Point]] = {}
        """Of the window before."""
        self._window_calls = 0
        self._solo_calls = 0
        self._probe_calls = 0
        """Calls that the probe still waits for at most; 0: no probe."""
        self._skipped = 0
        """Calls that began under another limit and have to end before a round begins."""
        self._calls = self._full_calls = self._tokens = self._in_flight = 0
        """Of this round, summed."""
        self._latency_s = 0.0

    @property
    def limit(self) -> int:
        """How many calls may be in flight."""
        return self._low if self._probe_calls else self._limit

    def observe(
        self, latency_s: float, tokens: int, in_flight_at_start: int, *, is_full: bool = False
    ) -> bool:
        """A call was answered; True if the limit has changed. Failed calls say nothing.

        Args:
            latency_s: from sending it to the end of its answer.
            tokens: of all its texts together, estimated.
            in_flight_at_start: calls on the instance when it was sent, itself included.
            is_full: no more texts would have found room in it.
        """
        before = self.limit
        self._remember((tokens, latency_s))
        self._window_calls += 1
        if in_flight_at_start <= self._low:
            self._solo_calls += 1
        if self._probe_calls:
            self._probe()
        elif self._skipped:
            self._skipped -= 1
        else:
            self._calls += 1
            self._full_calls += is_full
            self._tokens += tokens
            self._in_flight += in_flight_at_start
            self._latency_s += latency_s
            if self._calls >= max(ROUND_CALLS, 2 * self._limit):
                self._end_round()
        return self.limit != before

    def _remember(self, point: Point) -> None:
        tokens, latency_s = point
        magnitude = tokens.bit_length()
        known = self._fastest.get(magnitude)
        if known is None:
            self._fastest[magnitude] = (point, point)
            return
        fastest, per_token = known
        is_fastest = latency_s < fastest[1]
        is_fastest_per_token = latency_s * per_token[0] < per_token[1] * tokens
        if is_fastest or is_fastest_per_token:
            self._fastest[magnitude] = (
                point if is_fastest else fastest,
                point if is_fastest_per_token else per_token,
            )

    def _probe(self) -> None:
        self._probe_calls -= 1
        if self._solo_calls >= SOLO_CALLS or not self._probe_calls:
            self._end_window()

    def _end_window(self) -> None:
        self._fastest_before, self._fastest = self._fastest, {}
        self._window_calls = self._solo_calls = self._probe_calls = 0
        self._begin_round()

    def _begin_round(self) -> None:
        self._skipped = self._limit
        self._calls = self._full_calls = self._tokens = self._in_flight = 0
        self._latency_s = 0.0

    def _end_round(self) -> None:
        is_used_up = self._in_flight >= (self._limit - 0.5) * self._calls
        queue = self._estimated_queue()
        are_full = 2 * self._full_calls > self._calls
        if queue > (FULL_SHRINK_ABOVE if are_full else SHRINK_ABOVE):
            self._limit = max(self._low, self._limit - 1)
        elif queue < (FULL_GROW_BELOW if are_full else GROW_BELOW) and is_used_up:
            self._limit = min(self._high, self._limit + 1)
        self._begin_round()
        if self._window_calls >= WINDOW_PER_LIMIT * self._limit:
            if self._solo_calls >= SOLO_CALLS:
                self._end_window()
            else:  # it ends even if calls never come alone, because others go past this limit
                self._probe_calls = self._limit + 4 * SOLO_CALLS

    def _estimated_queue(self) -> float:
        """Calls of a round's mean number in flight that were waiting."""
        fixed_s, token_s = highest_line_below(
            (
                point
                for window in (self._fastest_before, self._fastest)
                for pair in window.values()
                for point in pair
            ),
            self._tokens / self._calls,
        )
        base_s = fixed_s * self._calls + token_s * self._tokens
        return self._in_flight / self._calls * (1 - base_s / max(self._latency_s, 1e-9))


def highest_line_below(points: Iterable[Point], tokens: float) -> Line:
    """The line that no point is below and that is highest at `tokens`; it never falls.

    It goes through two neighbours of the points' lower hull, or through the lowest point if it is
    level, or through the lowest for its tokens if it has no fixed part.
    """
    hull: list[Point] = []
    for point in sorted(points):
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-2], point):
            hull.pop()
        if not hull or point[0] > hull[-1][0]:
            hull.append(point)
    lines = [
        (min(s for _, s in hull), 0.0),
        (0.0, min(s / max(t, 1) for t, s in hull)),
    ]
    for left, right in pairwise(hull):
        slope = _slope(left, right)
        lines.append((left[1] - slope * left[0], slope))
    return max(
        (line for line in lines if min(line) >= 0),
        key=lambda line: line[0] + line[1] * tokens,
    )


def _slope(left: Point, right: Point) -> float:
    return (right[1] - left[1]) / max(right[0] - left[0], 1)
