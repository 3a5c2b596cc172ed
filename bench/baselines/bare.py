"""What can be reached, not a product: the router's way of forwarding, with nothing around it.

uvicorn's httptools protocol is subclassed. A request to an inference route becomes an exchange that
takes the place of uvicorn's own request cycle, goes to a pooled connection to the engine, and is
answered from that connection's parser callbacks straight into the client's transport: no task,
queue or event for a request or a chunk.

Left out is all that a router is for and much that keeps one alive: routing, back-pressure, limits,
timeouts, retries, pipelining, clients that leave, any other answer than a good one. The router's
cost is read as a ratio to this.

Run: python bare.py PORT ENGINE_PORT [HOST ...]: engines on this port of each host get the
requests in turn.
"""

import asyncio
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import cast

import httptools
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HOST = "127.0.0.1"
FORWARDED = frozenset({b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings"})
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding"})


class EngineConnection(asyncio.Protocol):
    """A connection to the engine, in the pool or at work for one exchange."""

    __slots__ = ("_head", "_parser", "_pool", "exchange", "transport", "write")

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._head: list[bytes] = []
        self.exchange: Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.write = self.transport.write

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.discard(self)
        if self.exchange is not None:
            self.exchange.transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._head = []

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered not in HOP_BY_HOP:
            self._head.append(name + b": " + value + b"\r\n")
        elif lowered == b"transfer-encoding" and self.exchange is not None:
            self.exchange.chunked = True

    def on_headers_complete(self) -> None:
        if self.exchange is not None:
            self.exchange.begin(self._parser.get_status_code(), b"".join(self._head))

    def on_body(self, body: bytes) -> None:
        if self.exchange is not None:
            self.exchange.forward(body)

    def on_message_complete(self) -> None:
        exchange, self.exchange = self.exchange, None
        if self._parser.should_keep_alive():
            self._pool.put(self)
        else:
            self.transport.close()
        if exchange is not None:
            exchange.end()


class Pool:
    """The idle connections to an engine; the one used last is taken first."""

    def __init__(self, engine_port: int, host: str = HOST) -> None:
        self._engine_port = engine_port
        self._host = host
        self._idle: list[EngineConnection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, connection: EngineConnection) -> None:
        self._idle.append(connection)

    def discard(self, connection: EngineConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def send(self, exchange: "Exchange", request: bytes) -> None:
        if self._idle:
            connection = self._idle.pop()
            connection.exchange = exchange
            connection.write(request)
        else:
            task = asyncio.get_running_loop().create_task(self._connect(exchange, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, exchange: "Exchange", request: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: EngineConnection(self), self._host, self._engine_port
        )
        connection.exchange = exchange
        connection.write(request)


class Exchange:
    """A request and its answer; has the attributes that uvicorn reads of its request cycle."""

    __slots__ = (
        "_head",
        "_protocol",
        "_write",
        "chunked",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "parts",
        "path",
        "response_complete",
        "transport",
    )

    def __init__(self, protocol: "BareProtocol", path: bytes) -> None:
        self._protocol = protocol
        self.transport = protocol.transport
        self._write = protocol.transport.write
        self._head = b""
        self.path = path
        self.parts: list[bytes] = []
        self.chunked = False
        self.keep_alive = protocol.parser.should_keep_alive()
        self.response_complete = False
        self.disconnected = False
        self.more_body = False
        self.message_event = protocol

    def request(self) -> bytes:
        """The request as the engine gets it."""
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        return (
            b"POST %b HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (self.path, len(body), body)
        )

    def begin(self, status: int, fields: bytes) -> None:
        if self.chunked:
            framing = b"transfer-encoding: chunked\r\n"
            self._write(b"HTTP/1.1 %d OK\r\n%b%b\r\n" % (status, fields, framing))
        else:
            # Goes out together with the first of the body.
            self._head = b"HTTP/1.1 %d OK\r\n%b\r\n" % (status, fields)

    def forward(self, body: bytes) -> None:
        if self.chunked:
            self._write(b"%x\r\n%b\r\n" % (len(body), body))
        elif self._head:
            head, self._head = self._head, b""
            self._write(head + body)
        else:
            self._write(body)

    def end(self) -> None:
        if self.chunked:
            self._write(b"0\r\n\r\n")
        elif self._head:
            self._write(self._head)
        self.response_complete = True
        if not self.keep_alive:
            self.transport.close()
        self._protocol.on_response_complete()


class BareProtocol(HttpToolsProtocol):
    """Forwards the inference routes and leaves every other to the application."""

    pools: Iterator[Pool]
    """Of the engine that gets the next request."""
    _exchange: Exchange | None = None

    def set(self) -> None:
        """Stand in for the event that uvicorn sets when the client leaves."""

    def on_message_begin(self) -> None:
        # uvicorn would build an ASGI scope here; only the application's requests need one.
        self._exchange = None
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.url in FORWARDED and self.parser.get_method() == b"POST":
            self._exchange = self.cycle = Exchange(self, self.url)  # type: ignore[assignment]  # stands in for the cycle
            return
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._exchange is None:
            super().on_body(body)
        else:
            self._exchange.parts.append(body)

    def on_message_complete(self) -> None:
        if self._exchange is None:
            super().on_message_complete()
        else:
            next(self.pools).send(self._exchange, self._exchange.request())


def main(port: int, engine_port: int, hosts: Sequence[str]) -> None:
    BareProtocol.pools = itertools.cycle([Pool(engine_port, host) for host in hosts])
    uvicorn.run(
        FastAPI(),
        host=HOST,
        port=port,
        loop="uvloop",
        http=BareProtocol,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or [HOST])
