"""uvicorn's HTTP protocol with the inference routes answered here; all others go to the app.

A request on an inference route becomes an Exchange in the place of uvicorn's request cycle: no
scope, no task, no queue. Requests of one connection are answered in their order, whoever answers
them. Serve with uvicorn(http=InferenceProtocol, ws="none").
"""

import asyncio
import logging
from typing import Any, Final, NoReturn

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from sagepool_router import answers, request_head, sockets
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.errors import RouterError
from sagepool_router.exchange import Exchange
from sagepool_router.facts import ENDPOINTS, Endpoint

_logger: Final = logging.getLogger(__name__)


class _StopParsing(Exception):
    """Raised in a callback of the parser: nothing behind this point is to be read."""


class InferenceProtocol(HttpToolsProtocol):
    """One connection of a client."""

    # uvicorn's own class has a dict; past thirty names in it every access would be slower
    __slots__ = (
        "_answering",
        "_dispatcher",
        "_head_bytes",
        "_in_head",
        "_is_lingering",
        "_is_stopped",
        "_linger_bytes",
        "_max_head_bytes",
        "_must_replay",
        "_read_bytes",
        "_receiving",
        "_running",
        "_since",
        "is_write_paused",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._dispatcher: Dispatcher = app_state["dispatcher"]
        self._receiving: Exchange | None = None
        """The exchange whose body comes in."""
        self._answering: Exchange | None = None
        """The exchange whose turn it is."""
        self._running: RequestResponseCycle | None = None
        """The app's request whose turn it is."""
        self.is_write_paused = False
        self._in_head = False
        self._head_bytes = 0
        """Bytes read for an unfinished head, less the first read: others may stand before it."""
        self._read_bytes = 0
        self._must_replay = False
        """The head asked for an upgrade: it is parsed once more without that."""
        self._is_stopped = False
        """Nothing more is read as requests."""
        self._is_lingering = False
        self._linger_bytes = self._dispatcher.limits.linger_bytes
        self._max_head_bytes = self._dispatcher.limits.max_head_bytes
        self._since = self._dispatcher.now
        """When the present wait (for a head, for the next request, lingering) began."""

    # The transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """A client has connected."""
        super().connection_made(transport)
        self._dispatcher.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or the connection was closed from here."""
        self._dispatcher.clients.discard(self)
        for exchange in (self._answering, self._receiving):
            if exchange is not None:
                exchange.client_left()
        self._drop_queued()
        # uvicorn tells only the newest request of the connection
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        self._receiving = self._answering = self._running = None
        if not self._is_app_request():
            self.cycle = None  # type: ignore[assignment]  # as uvicorn begins
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if self._is_stopped:
            if self._is_lingering:
                self._linger_bytes -= len(data)
                if self._linger_bytes < 0:
                    self.transport.abort()
            return
        while True:
            self._read_bytes = len(data)
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserError as error:
                self._parser_failed(error)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            # not in the handler: whatever is raised there is taken for a consequence
            data = self._without_upgrade(data)
        if self._in_head:  # httptools has no limit for a head
            self._head_bytes += len(data)
            if self._head_bytes > self._max_head_bytes:
                self._refuse(request_head.head_too_large(self._dispatcher.limits))

    def pause_writing(self) -> None:
        """The client does not read as fast as it is written to."""
        self.flow.pause_writing()
        self.is_write_paused = True
        self._since = self._dispatcher.now
        if self._answering is not None:
            self._answering.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.flow.resume_writing()
        self.is_write_paused = False
        if self._answering is not None:
            self._answering.resume()

    # The parser.

    def on_message_begin(self) -> None:
        """A request begins. uvicorn's scope is made later, and only for the app's routes."""
        if self._is_stopped:
            raise _StopParsing  # the answer before it has closed the connection
        self.url = b""
        self.headers = []
        self._in_head = True
        self._head_bytes = -self._read_bytes
        self._since = self._dispatcher.now

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; trailers come here too and are dropped."""
        if self._in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Decide by the path who answers."""
        self._in_head = False
        limit = self._max_head_bytes
        if self._read_bytes > limit and request_head.head_size(self.url, self.headers) > limit:
            self._stop(request_head.head_too_large(self._dispatcher.limits))
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._stop(request_head.malformed())
            self._must_replay = True
            return
        endpoint = ENDPOINTS.get(self.url)
        if endpoint is None:
            path = request_head.read_path(self.url)
            if path is None:
                self._stop(request_head.malformed())
            endpoint = ENDPOINTS.get(path)
        if endpoint is None:
            self._begin_app_request()
        else:
            self._begin_exchange(endpoint)

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        exchange = self._receiving
        if exchange is not None:
            try:
                exchange.add_body(body)
            except RouterError as error:
                self._stop(error)
        elif not self._must_replay and self._is_app_request():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is complete."""
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            exchange.complete_body()
        elif not self._must_replay and self._is_app_request():
            super().on_message_complete()

    # Beginning a request.

    def _begin_app_request(self) -> None:
        """Do what uvicorn does from the beginning of a message on."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        if self._dispatcher.is_draining:
            self.cycle.keep_alive = False

    def _begin_exchange(self, endpoint: Endpoint) -> None:
        dispatcher = self._dispatcher
        parser = self.parser
        method, version = parser.get_method(), parser.get_http_version()
        head = request_head.read_head(endpoint.path, method, version, self.headers)
        if not head.request_id:
            head.request_id = dispatcher.next_request_id()
        key, refusal = dispatcher.look_at(head)
        is_kept = not head.is_http10 and parser.should_keep_alive() and not dispatcher.is_draining
        exchange = Exchange(self, dispatcher, endpoint, head, is_kept, refusal, key)
        self._receiving = exchange
        self._enqueue(exchange)
        if refusal is not None and not head.has_no_body:
            self._stop(refusal)  # its body is not wanted

    def _enqueue(self, exchange: Exchange) -> None:
        """It is the exchange's turn if nothing before it is unanswered."""
        newest = self.cycle
        self.cycle = exchange  # type: ignore[assignment]  # it has what uvicorn reads of a cycle
        if newest is None or newest.response_complete:
            self._answering = exchange
            exchange.take_turn()
            return
        self.pipeline.appendleft((self.cycle, self.app))
        if len(self.pipeline) > self._dispatcher.limits.max_pipelined:
            self.flow.pause_reading()  # not sooner: a socket that is not read hides who left

    def _is_app_request(self) -> bool:
        """Whether the newest request of the connection is the app's."""
        return self.cycle is not None and not isinstance(self.cycle, Exchange)

    def _is_app_waiting(self) -> bool:
        """Whether the app may be waiting for more of a body."""
        return self._is_app_request() and self.cycle.more_body and not self.cycle.response_complete

    def _without_upgrade(self, rest: bytes) -> bytes:
        """What to parse once more, without its upgrade: httptools reads no body behind one, and
        Java's client asks for h2c every time."""
        self._must_replay = False
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return request_head.without_upgrade(method, self.url, version, self.headers) + rest

    # Ending a request.

    def exchange_ended(self, exchange: Exchange) -> None:
        """Client: the exchange has written all; the next one in line may."""
        if self._answering is exchange:
            self._answering = None
        if self._receiving is exchange:
            self._receiving = None
        self._since = self._dispatcher.now
        if self.transport.is_closing():
            return
        self.server_state.total_requests += 1
        if exchange.keep_alive:
            if self.pipeline or self.flow.read_paused:
                self._await_next()
            return
        self._is_stopped = True
        if exchange.is_received:
            self.transport.close()
        else:
            self._linger()

    def on_response_complete(self) -> None:
        """The app has answered a request."""
        self.server_state.total_requests += 1
        self._running = None
        self._since = self._dispatcher.now
        if not self.transport.is_closing():
            self._await_next()

    def _await_next(self) -> None:
        if self.pipeline:
            # not from here: a thousand pipelined requests would be a thousand frames deep
            self.loop.call_soon(self._take_next)
        elif self.flow.read_paused:
            self.flow.resume_reading()

    def _take_next(self) -> None:
        if not self.pipeline or self.transport.is_closing():
            return
        queued, app = self.pipeline.pop()
        if len(self.pipeline) <= self._dispatcher.limits.max_pipelined:
            self.flow.resume_reading()
        if isinstance(queued, Exchange):
            self._answering = queued
            queued.take_turn()
        else:
            self._start_asgi_task(queued, app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _drop_queued(self) -> None:
        """No request in line will be answered."""
        for queued, _ in self.pipeline:
            if isinstance(queued, Exchange):
                queued.client_left()
        self.pipeline.clear()

    def shutdown(self) -> None:
        """Close after the newest request, or the next one; `tick` closes what stays idle."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    # What cannot be read.

    def _parser_failed(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        if isinstance(cause, _StopParsing):
            return
        if isinstance(error, httptools.HttpParserCallbackError):
            # httptools wraps mistakes of ours as if the client had made them
            _logger.error("protocol callback failed", exc_info=cause)
            self._refuse_all(RouterError("the router failed: see its log", "internal_error"))
        else:
            self._refuse(request_head.malformed())

    def _stop(self, error: RouterError) -> NoReturn:
        """Refuse from inside of a callback of the parser, which reads no further."""
        self._refuse(error)
        raise _StopParsing

    def _refuse(self, error: RouterError) -> None:
        """Answer with `error` in its turn and read no further request."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._in_head = False
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            exchange.refuse(error)
        elif self._is_app_waiting() and self._running is self.cycle:
            if not self._running.response_started:
                request_id = self._dispatcher.next_request_id()
                self.transport.write(answers.error_answer(error, request_id, keep_alive=False))
            self.transport.close()
        else:
            if self._is_app_waiting():
                self.pipeline.popleft()  # the app will not get it: its turn is the error's
            head = request_head.RequestHead(b"", request_id=self._dispatcher.next_request_id())
            self._enqueue(Exchange(self, self._dispatcher, None, head, False, error))

    def _refuse_all(self, error: RouterError) -> None:
        """The state of this connection is not to be trusted any more."""
        self._is_stopped = True
        self._drop_queued()
        exchange = self._answering
        if exchange is None:
            self.transport.close()
        else:
            exchange.refuse(error)

    def _linger(self) -> None:
        """Read on for a little: a reset for unread bytes would cost the client the answer."""
        self._is_lingering = True
        if self.transport.can_write_eof():
            self.transport.write_eof()

    # Limits.

    def tick(self, now: float) -> None:
        """Compare with the limits; called by the sweep."""
        limits, waited = self._dispatcher.limits, now - self._since
        if self._is_lingering:
            if waited > limits.linger_s:
                self.transport.abort()
        elif waited > limits.stall_s and (self.is_write_paused or self.transport.is_closing()):
            sockets.reset(self.transport)  # the client does not read what was written
        elif self._in_head or self._is_app_waiting():
            if self.flow.read_paused:
                self._since = now  # we stopped reading, not the client
            elif self._in_head and waited > limits.header_s:
                self._refuse(request_head.head_timed_out())
            elif not self._in_head and waited > limits.upload_s:
                self._refuse(request_head.body_timed_out())
        elif self.cycle is None or self.cycle.response_complete:
            is_draining = self._dispatcher.is_draining
            if waited > (limits.farewell_s if is_draining else limits.keepalive_s):
                self.transport.close()
