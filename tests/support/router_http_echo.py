"""Who answers behind the two fronts that are compared: an app and an engine that say what came."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from router_memory_loop import MemoryLoop, Wire

EARLY = b"/early"
"""Where the app answers without having read anything."""
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)")


@dataclass
class Seen:
    """A request as uvicorn hands it to its app."""

    method: bytes
    path: bytes
    version: str
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""
    is_complete: bool = False
    """The app has read all of it; never, where it reads nothing."""

    def field(self, name: bytes) -> bytes | None:
        return dict(self.fields).get(name)

    @property
    def echo(self) -> bytes:
        """What is answered to it."""
        return echo(self.method, self.path, self.body)


def echo(method: bytes, path: bytes, body: bytes) -> bytes:
    return b"%b %b\n%b" % (method, path, body)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers when it has read all that it reads, and notes in its server's state what came."""
    seen = Seen(
        scope["method"].encode(), scope["raw_path"], scope["http_version"], tuple(scope["headers"])
    )
    scope["state"]["seen"].append(seen)
    while not seen.is_complete and seen.path != EARLY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        seen.body += message["body"]
        seen.is_complete = not message["more_body"]
    fields = [(b"content-length", b"%d" % len(seen.echo))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": seen.echo})


class EchoEngine:
    """Answers each request, after a while."""

    def __init__(self, loop: MemoryLoop, port: int, delay_s: float) -> None:
        self.loop = loop
        self.delay_s = delay_s
        self.bodies: list[bytes] = []
        """Of all requests, in their order."""
        loop.listeners[port] = self

    async def accept(self, factory: Callable[[], asyncio.Protocol]) -> Wire:
        line = _Line(self)
        line.wire = Wire(self.loop, factory(), line)
        return line.wire


class _Line:
    """A connection of the router to the engine."""

    wire: Wire

    def __init__(self, engine: EchoEngine) -> None:
        self._engine = engine
        self._heard = b""

    def hear(self, data: bytes) -> None:
        self._heard += data
        head, separator, body = self._heard.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        size = int(length[1]) if length is not None else 0
        if not separator or len(body) < size:
            return
        assert len(body) == size, "more than one request at a time"
        self._heard = b""
        method, path, _ = head.split(b" ", 2)
        if method == b"GET":
            said = b""  # to who asks for its load
        else:
            self._engine.bodies.append(body)
            said = echo(method, path, body)
        self._engine.loop.call_later(self._engine.delay_s, self._answer, said)

    def _answer(self, said: bytes) -> None:
        self.wire.feed(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))

    def hung_up(self, *, is_reset: bool) -> None:
        pass
