"""How far a download is: bytes, speed, what remains. Safe to use from several threads."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Phase: TypeAlias = Literal["Waiting", "Listing", "Downloading", "Publishing", "Done"]

_WINDOW_S: Final = 15.0
"""Speed is that of so long: long enough to be steady, short enough to be of now."""
_STEP_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Figures:
    """The state at one moment."""

    phase: Phase
    bytes_done: int
    """Written and kept, those of an earlier attempt included."""
    bytes_total: int
    """0 while it is not known."""
    bytes_per_second: int
    """Over the last seconds; bytes that an earlier attempt left do not count."""

    @property
    def remaining_s(self) -> int | None:
        """Seconds that are left at this speed; None while nothing can be said."""
        if not self.bytes_total or not self.bytes_per_second:
            return None
        return -(-max(0, self.bytes_total - self.bytes_done) // self.bytes_per_second)


class Progress:
    """Counts bytes as they are written."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take a clock: seconds, monotonic."""
        self._clock = clock
        self._lock = threading.Lock()
        self._phase: Phase = "Waiting"
        self._total = 0
        self._done = 0
        self._fetched = 0
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])

    def enter(self, phase: Phase) -> None:
        """Another phase begins."""
        with self._lock:
            self._phase = phase

    def expect(self, total_bytes: int) -> None:
        """The model has so many bytes."""
        with self._lock:
            self._total = total_bytes

    def keep(self, count: int) -> None:
        """So many bytes were there already; negative: they turned out to be of no use."""
        with self._lock:
            self._done += count

    def add(self, count: int) -> None:
        """So many bytes have been fetched and written."""
        with self._lock:
            self._done += count
            self._fetched += count
            now = self._clock()
            if now - self._marks[-1][0] >= _STEP_S:
                self._marks.append((now, self._fetched))
            while len(self._marks) > 1 and now - self._marks[1][0] >= _WINDOW_S:
                self._marks.popleft()

    def figures(self) -> Figures:
        """The state now."""
        with self._lock:
            now = self._clock()
            began, before = next(
                (mark for mark in self._marks if now - mark[0] <= _WINDOW_S), (now, self._fetched)
            )
            took = now - began
            speed = int((self._fetched - before) / took) if took > 0 else 0
            return Figures(self._phase, self._done, self._total, speed)
