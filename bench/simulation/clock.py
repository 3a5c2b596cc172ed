"""Simulated time: a heap of what is to happen."""

from collections.abc import Callable
from heapq import heappop, heappush


class Event:
    """Something that will be called once, unless it is cancelled."""

    __slots__ = ("_call", "at")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Do not call."""
        self._call = None

    def happen(self) -> None:
        """Call, unless cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Clock:
    """Time that jumps from event to event; equal times happen in the order they were asked for."""

    __slots__ = ("_asked", "_heap", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Event]] = []
        self._asked = 0

    def read(self) -> float:
        """The present, in seconds."""
        return self.now

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Event:
        """Call once after so many seconds."""
        event = Event(self.now + delay_s, call)
        self._asked += 1
        heappush(self._heap, (event.at, self._asked, event))
        return event

    def run(self, until: Callable[[], bool]) -> None:
        """Let things happen until the condition holds or nothing is left to happen."""
        heap = self._heap
        while heap and not until():
            self.now, _, event = heappop(heap)
            event.happen()
