"""A client's connection: HTTP/1.1 over httptools, one request at a time, kept alive between."""

import asyncio
import socket
import struct
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

import httptools

MAX_HEAD_BYTES: Final = 65536
MAX_PIPELINED: Final = 64
"""No more is read from a client that has so many requests waiting on one connection."""
MAX_UNREAD_BYTES: Final = 16 << 20
"""A client that lets more than this pile up is disconnected."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # linger, for no time

_START: Final = {
    status.value: b"HTTP/1.1 %d %b\r\nserver: sagepool-simulator\r\n"
    % (status.value, status.phrase.encode())
    for status in HTTPStatus
}


@dataclass(slots=True)
class Request:
    """A complete request."""

    method: str
    path: str
    body: bytes
    keep_alive: bool
    request_id: bytes
    is_too_large: bool
    """Its body went over the limit and was thrown away."""


class Work(Protocol):
    """What a request set going."""

    def cancel(self) -> None:
        """The client has left."""


class Handler(Protocol):
    """Who answers requests."""

    def opened(self, connection: "Connection") -> None:
        """A client has connected."""

    def closed(self, connection: "Connection") -> None:
        """A client has left."""

    def handle(self, request: Request, connection: "Connection") -> Work | None:
        """Answer now, or return what will answer later."""


class Connection(asyncio.Protocol):
    """Parses requests and writes answers; the handler decides what they say."""

    def __init__(
        self, handler: Handler, loop: asyncio.AbstractEventLoop, keep_alive_s: float, max_body: int
    ) -> None:
        self._handler = handler
        self._loop = loop
        self._keep_alive_s = keep_alive_s
        self._max_body = max_body
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[Request] = deque()
        self._current: Request | None = None
        self._work: Work | None = None
        self._idle_since: float | None = 0.0
        self._closes_unannounced = False
        self._is_receiving = False
        self._is_broken = False
        self.is_stopping = False
        self._begin()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = transport  # type: ignore[assignment]  # TCP gives a full Transport
        self._handler.opened(self)
        self._idle_since = self._loop.time()

    def data_received(self, data: bytes) -> None:
        """Parse and serve; a broken request ends the connection with 400, or 431."""
        if self._is_broken:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end_broken()
            return
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._end_broken()
                return
        if len(self._queue) > MAX_PIPELINED and self._transport is not None:
            self._transport.pause_reading()
        if self._current is None:
            self._serve_next()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left: what it asked for is given up."""
        self._handler.closed(self)
        self._transport = None
        self._queue.clear()
        self._current = None
        work, self._work = self._work, None
        if work is not None:
            work.cancel()

    # httptools

    def _begin(self) -> None:
        self._url = b""
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._request_id = b""
        self._is_in_head = False

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begin()
        self._is_in_head = self._is_receiving = True
        self._idle_since = None

    def on_url(self, url: bytes) -> None:
        """A part of its target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of its head."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")  # reaches data_received as a parser error
        if name.lower() == b"x-request-id":
            self._request_id = value
        elif name.lower() == b"expect" and self._transport is not None and self._current is None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        self._is_in_head = False

    def on_body(self, data: bytes) -> None:
        """A part of its body."""
        self._body_bytes += len(data)
        if self._body_bytes <= self._max_body:
            self._body.append(data)
        else:  # read to its end, so that the client reads the answer
            self._body.clear()

    def on_message_complete(self) -> None:
        """It is complete; it is served when those before it are answered."""
        self._is_receiving = False
        self._queue.append(
            Request(
                method=self._parser.get_method().decode("ascii", "replace"),
                path=self._url.partition(b"?")[0].decode("latin-1"),
                body=b"".join(self._body),
                keep_alive=self._parser.should_keep_alive(),
                request_id=self._request_id,
                is_too_large=self._body_bytes > self._max_body,
            )
        )

    def _serve_next(self) -> None:
        if not self._queue or self._current is not None:
            return
        request = self._current = self._queue.popleft()
        if not self._queue and self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()
        work = self._handler.handle(request, self)
        if self._current is request:
            self._work = work

    # Answers.

    def reply(
        self,
        status: int,
        body: bytes,
        content_type: bytes = b"application/json",
        fields: bytes = b"",
    ) -> None:
        """Write a whole answer."""
        head = self._head(status, content_type) + fields
        shown = b"" if self._current is not None and self._current.method == "HEAD" else body
        self._write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), shown))
        self.finish()

    def begin_stream(self) -> None:
        """Write the head of an event stream."""
        head = self._head(200, b"text/event-stream; charset=utf-8")
        self._write(head + b"transfer-encoding: chunked\r\n\r\n")

    def stream(self, frames: list[bytes]) -> None:
        """Write events, each in a chunk of its own."""
        self._write(b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames))

    def end_stream(self, frame: bytes) -> None:
        """Write the last events and the end of the stream."""
        self._write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(frame), frame))
        self.finish()

    def finish(self) -> None:
        """The answer is written: serve the next request, wait, or close."""
        request, self._current, self._work = self._current, None, None
        transport = self._transport
        if transport is None or request is None:
            return
        if not request.keep_alive or self.is_stopping or self._closes_unannounced:
            transport.close()
        elif self._queue:
            # not from here: thousands of pipelined requests would nest as deep
            self._loop.call_soon(self._serve_next)
        elif not self._is_receiving:
            self._idle_since = self._loop.time()

    def close_unannounced(self) -> None:
        """Close after this answer without saying so in it, as a restarting engine does."""
        self._closes_unannounced = True

    def reset(self) -> None:
        """Break the connection with a TCP reset, as a machine that dies does."""
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
            )
            self._transport.abort()

    def abort(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    def stop(self) -> None:
        """Close now if idle, else after the request that arrives or is answered."""
        self.is_stopping = True
        if self._idle_since is not None and self._transport is not None:
            self._transport.close()

    def sweep(self, now: float) -> None:
        """Close when idle for too long."""
        idle = self._idle_since
        if idle is not None and now - idle > self._keep_alive_s and self._transport is not None:
            self._transport.close()

    def _end_broken(self) -> None:
        if self._transport is None:
            return
        if self._current is not None or self._queue:
            self._transport.abort()
            return
        status = 431 if self._head_bytes > MAX_HEAD_BYTES else 400
        text = b"Invalid HTTP request received."
        self._transport.write(
            b"%bcontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (_START[status], len(text), text)
        )
        # closing with bytes unread would reset the connection before the answer is read: the client
        # closes, or the sweep does
        self._transport.write_eof()
        self._is_broken = True
        self._idle_since = self._loop.time()

    def _head(self, status: int, content_type: bytes) -> bytes:
        request = self._current
        closes = request is None or not request.keep_alive or self.is_stopping
        head = _START.get(status) or b"HTTP/1.1 %d \r\n" % status
        head += b"content-type: %b\r\n" % content_type
        if request is not None and request.request_id:
            head += b"x-request-id: %b\r\n" % request.request_id
        return head + b"connection: close\r\n" if closes else head

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._transport.abort()
            return
        self._transport.write(data)
