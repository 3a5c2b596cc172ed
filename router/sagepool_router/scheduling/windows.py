"""Timers for queues whose next call is not full and waits for company."""

from collections.abc import Callable
from typing import Generic, TypeVar

from sagepool_router.scheduling.gpus import Timer

QueueT = TypeVar("QueueT")


class Windows(Generic[QueueT]):
    """At most one timer for each queue: the earliest that it has asked for.

    Args:
        close: called with a queue when its time is over.
        call_later: calls once after so many seconds.
    """

    __slots__ = ("_call_later", "_close", "_open")

    def __init__(
        self,
        close: Callable[[QueueT], None],
        call_later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self._close = close
        self._call_later = call_later
        self._open: dict[QueueT, tuple[float, Timer]] = {}

    def open(self, queue: QueueT, now: float, seconds: float) -> None:
        """See to it that the queue is called for by then."""
        closes_at = now + seconds
        found = self._open.get(queue)
        if found is not None:
            if found[0] <= closes_at:
                return
            found[1].cancel()
        timer = self._call_later(seconds, lambda: self._on_time(queue))
        self._open[queue] = (closes_at, timer)

    def _on_time(self, queue: QueueT) -> None:
        del self._open[queue]
        self._close(queue)
