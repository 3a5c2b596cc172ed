"""The connections of a blocking client, so that closing it ends the calls that wait on them."""

import contextlib
import socket
import threading
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakSet

_MADE: Final = ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")


class Connections:
    """Knows every connection that is made, and ends them all; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: WeakSet[Any] = WeakSet()
        self._over = threading.Event()

    @property
    def is_over(self) -> bool:
        """Whether `end` was called."""
        return self._over.is_set()

    def pause(self, seconds: float) -> None:
        """Wait so long, or until the end."""
        self._over.wait(seconds)

    def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Learn of a connection, as httpx' request extension `trace` tells it."""
        if not event.endswith(_MADE):
            return
        stream = info["return_value"]
        with self._lock:
            self._streams.add(stream)
            if self._over.is_set():  # it was being made when the end came
                _shut_down(stream)

    def end(self) -> None:
        """Let every wait on a connection end now: closing alone leaves a thread in its `recv`."""
        with self._lock:
            self._over.set()
            for stream in self._streams:
                _shut_down(stream)


def _shut_down(stream: Any) -> None:
    connection = stream.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it has ended already
        # Not SSLSocket's own: that takes the session from under the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
