"""One request's way to an engine, and the engine's answer on its way to the client.

Until the first byte of an answer has gone to the client, a failed attempt can be followed by one
on another backend (`attempts`); after it nothing is repeated.
"""

from typing import TYPE_CHECKING

from sagepool_router import answers, first_event
from sagepool_router.attempts import ERRORS, Attempts
from sagepool_router.backend import LiveBackend
from sagepool_router.counters import WORKED_FOR
from sagepool_router.engine_error import to_openai
from sagepool_router.errors import EngineFailed, RouterError
from sagepool_router.phase import Phase
from sagepool_router.relay import AnswerRelay
from sagepool_router.retries import is_retryable
from sagepool_router.scheduling.scheduler import Call
from sagepool_router.upstream import UpstreamConnection
from sagepool_router.usage import Usage

if TYPE_CHECKING:
    from sagepool_router.dispatcher import Dispatcher
    from sagepool_router.exchange import Exchange


class Delivery(Attempts):
    """A request that travels alone, and whose answer goes to its client read by read.

    Args:
        exchange: whose request it is.
        dispatcher: the process' shared state.
        call: where it goes first.
        body: what is sent.
    """

    __slots__ = ("_exchange", "_held", "relay")

    def __init__(
        self,
        exchange: "Exchange",
        dispatcher: "Dispatcher",
        call: Call[LiveBackend],
        body: bytes,
    ) -> None:
        super().__init__(dispatcher, call, body)
        self.relay: AnswerRelay | None = None
        """The answer, once its first byte has gone to the client."""
        self._exchange = exchange
        self._held = b""
        """The beginning of a stream whose first event is incomplete, or of an error."""

    # Attempts.

    def _enter(self, phase: Phase, limit_s: float) -> None:
        self._exchange.wait_for(phase, limit_s)

    def _is_connecting(self) -> bool:
        return self._exchange.phase == "connecting"

    def _head(self) -> bytes:
        backend = self.call.place
        request = self._exchange.head
        return b"%b%b%bcontent-type: %b\r\nx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
            backend.request_start,
            request.path[backend.skipped :],
            backend.request_fields,
            request.content_type,
            request.request_id,
            len(self._body),
        )

    def _fail(self, error: RouterError) -> None:
        self._exchange.fail(error)

    def _restart(self) -> None:
        self._held = b""

    def _requeue(self) -> bool:
        scheduler, call = self._dispatcher.scheduler, self.call
        if not scheduler.requeue(call, call.slices):
            return False
        self.drop_connection()
        self._wait_again(self._exchange)
        scheduler.finished(call)
        return True

    # The answer (AnswerSink).

    def receive(self, data: bytes) -> None:
        """The first of the body; what comes later goes straight to the relay."""
        connection = self._connection
        if connection is None:
            return
        if connection.is_event_stream:
            self._receive_first_event(connection, data)
        elif connection.status < ERRORS:
            self._open_answer(connection, data)
        else:
            self._receive_error(connection, data)

    def finish(self) -> None:
        """The answer is complete and the connection no longer ours."""
        connection, self._connection = self._connection, None
        relay = self.relay
        if relay is None and connection is not None:
            if connection.status >= ERRORS:
                self._rewrite_error(connection)
            relay = self._open_answer(connection, self._held)
        if relay is not None:
            if relay.is_chunked:
                relay.close()
            self._exchange.end(relay.status)

    def engine_failed(self, reason: str) -> None:
        """The answer will not be completed."""
        if self.relay is None:
            super().engine_failed(reason)
            return
        self._connection = None
        self._exchange.fail(EngineFailed(f"instance {self.call.place.name}: {reason}"))

    def _receive_error(self, connection: UpstreamConnection, data: bytes) -> None:
        """It is held until it is complete: it may have to be written in another shape."""
        self._held += data
        if len(self._held) > self._dispatcher.limits.held_bytes:
            self._open_answer(connection, self._held)

    def _rewrite_error(self, connection: UpstreamConnection) -> None:
        body = to_openai(self._held)
        if body is not self._held:
            others = [f for f in connection.fields if not f.startswith(b"content-")]
            connection.fields = [
                *others,
                b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body),
            ]
            connection.is_sized = True
            self._held = body

    def _receive_first_event(self, connection: UpstreamConnection, data: bytes) -> None:
        data = self._held + data
        if not first_event.is_complete(data) and len(data) < self._dispatcher.limits.held_bytes:
            self._held = data
            return
        error = first_event.find_error(data)
        if error is None:
            self._open_answer(connection, data)
        else:
            self._refuse(error)

    def _refuse(self, error: first_event.StreamError) -> None:
        """The stream began with an error, so it becomes an answer with a status."""
        place = self.call.place
        if is_retryable(place.facts.engine, error.status):
            reason = f"its stream began with an error of status {error.status}"
            place.failed(reason, is_connect=False)
            if self._retry("error_frame"):
                return
        self.drop_connection()
        self._exchange.answer(error.status, error.body, self.call)

    def _open_answer(self, connection: UpstreamConnection, data: bytes) -> AnswerRelay:
        """Write the first byte: from here on there is no other way."""
        exchange, dispatcher, call = self._exchange, self._dispatcher, self.call
        client, backend = exchange.client, call.place
        if backend.failures and not self._is_failure:
            backend.succeeded()
        is_chunked = not connection.is_sized
        if is_chunked and exchange.head.is_http10:
            is_chunked = False  # HTTP/1.0 knows no chunks: the body ends by closing
            exchange.keep_alive = False
        now = dispatcher.clock()
        if exchange.key is not None:
            connection.fields.append(exchange.key.answer_fields(now))
        head = answers.answer_head(
            connection.status,
            connection.fields,
            backend.answer_fields(call.policy, call.reason),
            exchange.head.request_id,
            is_chunked,
            exchange.keep_alive,
        )
        self._body = self._held = b""
        self.relay = relay = AnswerRelay(
            client.transport.write,
            connection.status,
            is_chunked,
            connection.is_event_stream,
            now,
        )
        if not connection.is_complete:
            connection.receiver = relay.pass_on
            exchange.release_body()
            exchange.wait_for("streaming", dispatcher.limits.gap_s)
            if client.is_write_paused:
                connection.pause_reading()
        relay.open(head, data)
        if connection.is_event_stream:
            dispatcher.scheduler.answered(call)
        return relay

    # What the exchange does with it.

    def pause(self) -> None:
        """Read no more from the engine."""
        if self._connection is not None:
            self._connection.pause_reading()

    def resume(self) -> None:
        """Read from the engine again."""
        if self._connection is not None:
            self._connection.resume_reading()

    def end(self, status: int, now: float) -> Usage | None:
        """Give the place back; returns what the answer says that it cost."""
        dispatcher, call = self._dispatcher, self.call
        usage: Usage | None = None
        if self.relay is not None and status < ERRORS:
            usage = self.relay.usage()
            dispatcher.accounts.measure(call, self._exchange, usage, now)
        elif status in WORKED_FOR:
            self.charge_time()
        dispatcher.scheduler.finished(call)
        return usage
