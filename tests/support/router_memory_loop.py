"""An event loop whose time is made up, and the router's ends of connections without sockets.

Nothing is waited for: when the loop has nothing to do, its clock jumps to the next timer.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Protocol

_BEGIN, _END = 1000.0, 2000.0
"""A life in memory is short."""
HIGH_WATER = 300
"""Unread bytes at which a writer is told to pause."""


class Peer(Protocol):
    """Who sits at the other end of a connection."""

    def hear(self, data: bytes) -> None:
        """The router has written."""

    def hung_up(self, *, is_reset: bool) -> None:
        """The connection is gone."""


class Listener(Protocol):
    """Who can be connected to."""

    async def accept(self, factory: Callable[[], asyncio.Protocol]) -> "Wire":
        """Let a connection in, or raise an OSError."""


class MemoryLoop(asyncio.BaseEventLoop):
    """The machinery of asyncio's own loop over a clock in place of a selector."""

    def __init__(self) -> None:
        super().__init__()
        self._now = _BEGIN
        self._selector = self
        self.listeners: dict[int, Listener] = {}
        """By port."""
        self.numbers = count(1)
        """For what has to differ from all others of this loop."""
        self.mistakes: list[str] = []
        """What asyncio would have logged."""
        self.set_exception_handler(
            lambda _, context: self.mistakes.append(f"{context['message']}: {context}")
        )

    @classmethod
    def running(cls) -> "MemoryLoop":
        loop = asyncio.get_running_loop()
        assert isinstance(loop, cls)
        return loop

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> tuple[()]:
        assert timeout is not None, "nothing is left that could happen"
        self._now += max(0.0, timeout)
        assert self._now < _END, "it never comes to rest"
        return ()

    def _process_events(self, event_list: tuple[()]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int, **_: object
    ) -> tuple["Wire", asyncio.Protocol]:
        wire = await self.listeners[port].accept(protocol_factory)
        return wire, wire.protocol


class _Socket:
    """As much of a socket as is asked for."""

    def __init__(self) -> None:
        self.resets = False

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        self.resets = True

    def getsockname(self) -> tuple[str, int]:
        return ("10.0.0.1", 80)

    def getpeername(self) -> tuple[str, int]:
        return ("10.0.0.2", 40_000)


class Wire(asyncio.Transport):
    """The router's end of a connection, and what its peer does to it."""

    def __init__(self, loop: MemoryLoop, protocol: asyncio.Protocol, peer: Peer) -> None:
        super().__init__()
        self.protocol = protocol
        self.is_read = True
        """The peer takes what is written to it."""
        self.fed = 0
        """How often the peer has sent something, its end included."""
        self.delivered = 0
        """How much of that the router has read."""
        self.lost_bytes = 0
        """Written, and dropped because the connection was aborted."""
        self._loop = loop
        self._peer = peer
        self._socket = _Socket()
        self._incoming: deque[bytes | OSError | None] = deque()
        self._outgoing = bytearray()
        self._is_paused = False
        self._is_write_paused = False
        self._is_closing = False
        self._is_gone = False
        protocol.connection_made(self)

    # The router's.

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._socket if name == "socket" else default

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return len(self._outgoing)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        if not self._is_closing:
            self._outgoing += data
            self._flush()

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self._loop.call_soon(self._deliver)

    def close(self) -> None:
        self._is_closing = True
        if not self._outgoing:
            self._go(None)

    def abort(self) -> None:
        self._break(None)

    # The peer's.

    def feed(self, data: bytes) -> None:
        """Send something to the router."""
        self._send(data)

    def feed_eof(self) -> None:
        """Close."""
        self._send(None)

    def feed_reset(self) -> None:
        """Break the connection off."""
        self._send(ConnectionResetError())
        if self._is_closing:
            self._break(ConnectionResetError())  # what was to be written yet cannot be

    def read(self, is_read: bool) -> None:
        """Take what is written from now on, or leave it."""
        self.is_read = is_read
        self._flush()

    def _send(self, item: bytes | OSError | None) -> None:
        self.fed += 1
        self._incoming.append(item)
        self._deliver()

    def _deliver(self) -> None:
        while self._incoming and not self._is_paused and not self._is_closing:
            item = self._incoming.popleft()
            self.delivered += 1
            if isinstance(item, bytes):
                self.protocol.data_received(item)
            elif item is None:
                if not self.protocol.eof_received():
                    self.close()
            else:
                self._break(item)

    def _flush(self) -> None:
        if self.is_read:
            if self._outgoing:
                data = bytes(self._outgoing)
                self._outgoing.clear()
                self._peer.hear(data)
            if self._is_write_paused and not self._is_gone:
                self._is_write_paused = False
                self.protocol.resume_writing()
            if self._is_closing:
                self._go(None)
        elif len(self._outgoing) > HIGH_WATER and not self._is_write_paused:
            self._is_write_paused = True
            self.protocol.pause_writing()

    def _break(self, error: OSError | None) -> None:
        self.lost_bytes += len(self._outgoing)
        self._outgoing.clear()
        self._is_closing = True
        self._go(error)

    def _go(self, error: OSError | None) -> None:
        if not self._is_gone:
            self._is_gone = True
            self._loop.call_soon(self._tell, error)

    def _tell(self, error: OSError | None) -> None:
        self.protocol.connection_lost(error)
        self._peer.hung_up(is_reset=error is not None or self._socket.resets)
