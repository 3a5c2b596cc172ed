"""A clock that tests move by hand."""

import heapq
import itertools
from collections.abc import Callable


class ManualTimer:
    """A call in the future of a ManualClock."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class ManualClock:
    """A Clock whose time passes only in `advance` and `run`."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, ManualTimer]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self.now

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: object
    ) -> ManualTimer:
        timer = ManualTimer(lambda: callback(*args))
        heapq.heappush(self._timers, (self.now + delay, next(self._numbers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass, and call what falls due."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, timer = heapq.heappop(self._timers)
            if not timer.is_cancelled:
                timer.call()
        self.now = end

    def run(self, limit_s: float = 3600.0) -> None:
        """Let time pass until nothing is left to call."""
        while self._timers:
            assert self._timers[0][0] <= limit_s, "it never comes to rest"
            self.advance(self._timers[0][0] - self.now)
