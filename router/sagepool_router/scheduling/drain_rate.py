"""How fast a queue drains, and so when a client that was refused should come back."""

from typing import Final

WINDOW_S: Final = 10.0
MIN_S: Final = 1.0
MAX_S: Final = 60.0
UNKNOWN_S: Final = 5.0
_MEANINGFUL: Final = 8
"""Starts in a second that are no chance."""


class DrainRate:
    """Starts of the last ten seconds in one-second slots, and the places already promised.

    Everybody who is refused is told to come back when those who came before have had their turn:
    the queue and the promises made, over the rate. Without that all would come back together.
    """

    __slots__ = (
        "_counts",
        "_promised",
        "_promised_at",
        "_second",
        "_slot",
        "_started_at",
        "_turns_at",
    )

    def __init__(self) -> None:
        self._counts = [0] * int(WINDOW_S)
        self._second = self._slot = 0
        """The second that is counted, and where."""
        self._turns_at = float("-inf")
        """When the next one begins."""
        self._started_at = -1.0
        self._promised = 0.0
        self._promised_at = 0.0

    def started(self, now: float) -> None:
        """A request has left the queue, or has passed it by."""
        if now >= self._turns_at:
            self._turn(now)
        self._counts[self._slot] += 1

    def per_second(self, now: float) -> float:
        """Requests started a second; 0 when none has been of late.

        Over ten seconds, or over the last one if that tells more: before a burst came less than
        could have been done.
        """
        if self._started_at < 0:
            return 0.0
        self._turn(now)
        lately = self._counts[self._slot] + self._counts[self._slot - 1] * (self._turns_at - now)
        usual = sum(self._counts) / min(WINDOW_S, max(1.0, now - self._started_at))
        return max(lately, usual) if lately >= _MEANINGFUL else usual

    def promise(self, now: float, queued: int) -> float:
        """Seconds after which a client that is refused now should come back."""
        rate = self.per_second(now)
        elapsed, self._promised_at = now - self._promised_at, now
        self._promised = max(0.0, self._promised - elapsed * rate)
        if not rate:
            return UNKNOWN_S
        seconds = (queued + self._promised) / rate
        self._promised = min(self._promised + 1, MAX_S * rate)
        return min(MAX_S, max(MIN_S, seconds))

    def _turn(self, now: float) -> None:
        second = int(now)
        if self._started_at < 0:
            self._started_at = now
            self._second = second
        slots = len(self._counts)
        for passed in range(min(slots, second - self._second)):
            self._counts[(second - passed) % slots] = 0
        self._second = second
        self._slot = second % slots
        self._turns_at = second + 1
