"""Connections to engines: HTTP/1.1 over httptools, kept alive between requests.

A connection carries one answer at a time and hands it to a sink, at most one call per read. The
sink is called outside of the parser's callbacks: it may abandon the connection in any call.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

import httptools

_logger: Final = logging.getLogger(__name__)

_ACTED_ON: Final = frozenset(
    (
        b"content-length",
        b"content-type",
        # of this connection only
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        # ours take their place
        b"x-request-id",
        b"x-sagepool-instance",
        b"x-sagepool-policy",
        b"x-sagepool-reason",
    )
)


class CoarseClock:
    """The event loop's time as of the last sweep: reading it costs nothing."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0


class AnswerSink(Protocol):
    """Whom an engine's answer goes to."""

    def begin(self, connection: "UpstreamConnection") -> None:
        """The head of the answer has come: status and fields are on the connection."""

    def receive(self, data: bytes) -> None:
        """A part of the body has come."""

    def finish(self) -> None:
        """The answer is complete; the connection is no longer the sink's."""

    def engine_failed(self, reason: str) -> None:
        """The answer will not be completed; the connection is no longer the sink's."""

    def connection_was_stale(self) -> None:
        """A reused connection closed before a byte of an answer came: the engine had closed it
        for being idle while the request was on its way. It is no longer the sink's."""


class IdlePool:
    """The idle connections to one engine: the newest is used first, so the others can age out."""

    __slots__ = ("_clock", "_idle_s", "_is_closed", "connections", "max_head_bytes")

    def __init__(self, clock: CoarseClock, idle_s: float, max_head_bytes: int) -> None:
        self.max_head_bytes = max_head_bytes
        """The header fields of an answer may be so large."""
        self.connections: list[UpstreamConnection] = []
        self._clock = clock
        self._idle_s = idle_s
        self._is_closed = False

    def take(self) -> "UpstreamConnection | None":
        """A connection that can be used at once, or None."""
        connections = self.connections
        while connections:
            connection = connections.pop()
            if connection.transport.is_closing():
                continue
            if self._clock.now - connection.idle_since <= self._idle_s:
                return connection
            connection.transport.abort()
        return None

    def put(self, connection: "UpstreamConnection") -> None:
        """Keep a connection for the next request."""
        if self._is_closed:
            connection.transport.close()
            return
        connection.idle_since = self._clock.now
        self.connections.append(connection)

    def forget(self, connection: "UpstreamConnection") -> None:
        """The connection has closed."""
        if connection in self.connections:
            self.connections.remove(connection)

    def sweep(self) -> None:
        """Close what has been idle for too long; the oldest are in front."""
        connections = self.connections
        while connections and self._clock.now - connections[0].idle_since > self._idle_s:
            connections.pop(0).transport.abort()

    def close(self) -> None:
        """Close all idle connections, and those that become idle later as soon as they do."""
        self._is_closed = True
        for connection in self.connections:
            connection.transport.abort()
        self.connections.clear()


class UpstreamConnection(asyncio.Protocol):
    """One connection to an engine."""

    __slots__ = (
        "_has_begun",
        "_has_heard",
        "_head_bytes",
        "_head_waits",
        "_in_head",
        "_is_chunked",
        "_is_reading",
        "_is_reused",
        "_keeps_alive",
        "_parser",
        "_pieces",
        "_pool",
        "fields",
        "idle_since",
        "is_complete",
        "is_event_stream",
        "is_sized",
        "receiver",
        "sink",
        "status",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, pool: IdlePool) -> None:
        self.sink: AnswerSink | None = None
        self.receiver: Callable[[bytes], None] = _discard
        """Where parts of the body go: the sink's `receive`, or what the sink puts in its place."""
        self.idle_since = 0.0
        self.status = 0
        """Status of the answer; valid from the sink's `begin`."""
        self.fields: list[bytes] = []
        """Header fields of the answer as lines, without those of the connection."""
        self.is_sized = False
        """The body's length is known: by its field, or because the status allows no body."""
        self.is_event_stream = False
        self.is_complete = False
        """All of the answer has come; true already while the sink gets the last of it."""
        self._pool = pool
        self._parser: httptools.HttpResponseParser | None = None
        self._pieces: list[bytes] = []
        self._is_reused = False
        self._is_reading = True
        self._has_heard = False
        """An answer has begun since the request was sent."""
        self._is_chunked = False
        self._in_head = False
        self._head_bytes = 0
        """Bytes of the reads that the head came in."""
        self._head_waits = False
        """The head is complete and the sink has not been told."""
        self._has_begun = False
        """The sink has been told of the head."""
        self._keeps_alive = False

    # What a sink does with it.

    def send(self, sink: AnswerSink, head: bytes, body: bytes) -> None:
        """Send a request; the answer goes to `sink`."""
        self.sink = sink
        self.receiver = sink.receive
        self._has_heard = self._has_begun = False
        if len(body) < 65536:
            self.transport.write(head + body)
        else:  # no second copy of a long body: both leave in one writev
            self.transport.write(head)
            self.transport.write(body)

    def abandon(self) -> None:
        """Break the connection off at once; the sink hears nothing more of it.

        Abort, not close: nothing is flushed and the engine frees its slot now.
        """
        self.sink = None
        self.transport.abort()

    def pause_reading(self) -> None:
        """Read no more until `resume_reading`; the engine feels it by its socket."""
        if self._is_reading and not self.transport.is_closing():
            self._is_reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._is_reading and not self.transport.is_closing():
            self._is_reading = True
            self.transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = transport  # type: ignore[assignment]  # TCP and TLS are both Transports
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, then tell the sink what came of it."""
        sink = self.sink
        if sink is None or self._parser is None:
            # a 408 or a second answer: it belongs to nobody and must not meet the next request
            self.transport.abort()
            return
        error: Exception | None = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as parser_error:
            error = parser_error
        if not self._has_begun:
            self._has_read_head(sink, len(data))
            if self.sink is not sink:
                return
        pieces = self._pieces
        if pieces:
            # one write for a read: many small ones cost four times as much
            passed_on = b"".join(pieces)
            pieces.clear()
            self.receiver(passed_on)
            if self.sink is not sink:
                return
        if error is not None:
            self._end_broken(sink, error)
        elif self.is_complete:
            # not in on_message_complete: the rest of the read would go to the next request
            self._release(sink)

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The engine closed, or we did."""
        sink, self.sink = self.sink, None
        self._parser = None  # breaks the cycle of protocol, parser and bound methods
        if sink is None:
            self._pool.forget(self)
        elif self._has_begun and not self.is_sized and not self._is_chunked and exc is None:
            sink.finish()  # a body that ends with the connection
        elif self._is_reused and not self._has_heard:
            sink.connection_was_stale()
        else:
            sink.engine_failed("the engine closed the connection")

    # httptools

    def on_message_begin(self) -> None:
        """An answer begins, maybe an informational one."""
        if self.is_complete:
            raise _SecondAnswerError
        self._has_heard = True
        self.fields = []
        self.is_sized = self.is_event_stream = self._is_chunked = False
        self._in_head = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailers, which are not passed on."""
        if not self._in_head:
            return
        name = name.lower()
        if name in _ACTED_ON:
            if name == b"content-length":
                self.is_sized = True
            elif name == b"content-type":
                self.is_event_stream = value[:17].lower() == b"text/event-stream"
            else:
                if name == b"transfer-encoding":
                    self._is_chunked = True
                return
        self.fields.append(b"%b: %b\r\n" % (name, value))

    def on_headers_complete(self) -> None:
        """The head is complete; informational answers come as whole messages and are dropped."""
        self._in_head = False
        if self._parser is None:
            return
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
            if status == 204 or status == 304:
                self.is_sized = True
            self._head_waits = True

    def on_body(self, data: bytes) -> None:
        """A piece; all pieces of a read are passed on together."""
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The answer is complete; only here does the parser know whether it may be reused."""
        if self._parser is not None and (self._head_waits or self._has_begun):
            self.is_complete = True
            self._keeps_alive = self._parser.should_keep_alive()

    def _has_read_head(self, sink: AnswerSink, read_bytes: int) -> None:
        """A head has come in this read, or a part of it: tell the sink if it is complete."""
        self._head_bytes += read_bytes
        if self._head_bytes > self._pool.max_head_bytes and (  # httptools has no limit
            self._in_head or sum(map(len, self.fields)) > self._pool.max_head_bytes
        ):
            self._end_broken(sink, _HeadTooLargeError())
        elif self._head_waits:
            self._head_waits = False
            self._has_begun = True
            sink.begin(self)

    # The end of an answer.

    def _release(self, sink: AnswerSink) -> None:
        self.sink = None
        self.receiver = _discard
        self.is_complete = False
        transport = self.transport
        # an engine may answer before it has read the whole request: that connection is done
        if self._keeps_alive and not transport.get_write_buffer_size():
            if not self._is_reading:
                self.resume_reading()  # paused for a slow client it would stay deaf in the pool
            self._is_reused = True
            if not transport.is_closing():
                self._pool.put(self)
        else:
            transport.close()
        sink.finish()

    def _end_broken(self, sink: AnswerSink, error: Exception) -> None:
        """Junk: after a complete answer it costs only the connection."""
        self.sink = None
        self.transport.abort()
        cause = error.__context__
        if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(
            cause, _SecondAnswerError
        ):
            # httptools wraps mistakes of ours as if the engine had made them
            _logger.error("upstream callback failed", exc_info=cause)
        if isinstance(error, _HeadTooLargeError):
            sink.engine_failed("the head of the engine's answer is too large")
        elif self.is_complete:
            sink.finish()
        else:
            sink.engine_failed("the engine sent an invalid response")


def _discard(data: bytes) -> None:
    """Nobody waits for it."""


class _HeadTooLargeError(Exception):
    """The fields of an answer are above the limit."""


class _SecondAnswerError(Exception):
    """A second answer followed the one that was asked for."""
