"""The life of one inference request, from its head to the end of its answer.

An exchange is called by the client's connection and by its delivery, which talks to engines. It
has no task, queue or event of its own. Until the first byte of an answer has gone to the client,
a failure becomes an error with a status; after it the only honest end of a failure is a visibly
broken answer.
"""

import asyncio
from math import inf
from typing import TYPE_CHECKING, Protocol

from sagepool_router import answers
from sagepool_router.auth.keys import ApiKey
from sagepool_router.backend import LiveBackend
from sagepool_router.counters import CLIENT_CLOSED, CLIENT_CLOSED_REQUEST
from sagepool_router.delivery import Delivery
from sagepool_router.embedding.assembly import Assembly
from sagepool_router.errors import RouterError, TimedOut
from sagepool_router.facts import Endpoint
from sagepool_router.fleet import LiveRoute
from sagepool_router.phase import Phase
from sagepool_router.relay import AnswerRelay
from sagepool_router.request_body import RequestBody
from sagepool_router.request_head import RequestHead, body_timed_out, body_too_large
from sagepool_router.scheduling.scheduler import Call
from sagepool_router.scheduling.work import Work
from sagepool_router.sockets import reset
from sagepool_router.usage import Usage

if TYPE_CHECKING:
    from sagepool_router.batch_call import BatchCall
    from sagepool_router.dispatcher import Dispatcher


class Client(Protocol):
    """The client's connection as an exchange sees it."""

    transport: asyncio.Transport
    is_write_paused: bool
    """The client does not read as fast as it is written to."""

    def exchange_ended(self, exchange: "Exchange") -> None:
        """The exchange has written all that it will write."""


class Exchange:
    """One request and its answer.

    Args:
        client: whom the request came from.
        dispatcher: the process' shared state.
        endpoint: the route; None when the request is refused.
        head: the request's head.
        keep_alive: the client's connection may serve another request after this one.
        refusal: the answer, if it is known already; nothing is sent to an engine then.
        key: whose it is, where the pool asks for keys.
    """

    __slots__ = (
        "_body_pieces",
        "_deadline_timer",
        "_delivery",
        "_dispatcher",
        "_endpoint",
        "_held_bytes",
        "_reads_seen",
        "_refusal",
        "_wait_ends_at",
        "assembly",
        "batches",
        "body",
        "charged_tokens",
        "client",
        "decision",
        "error_code",
        "head",
        "is_received",
        "keep_alive",
        "key",
        "phase",
        "prompt_tokens",
        "response_complete",
        "route",
        "started_at",
        "work",
    )

    def __init__(
        self,
        client: Client,
        dispatcher: "Dispatcher",
        endpoint: Endpoint | None,
        head: RequestHead,
        keep_alive: bool,
        refusal: RouterError | None = None,
        key: ApiKey | None = None,
    ) -> None:
        self.client = client
        self.head = head
        self.keep_alive = keep_alive
        self.is_received = False
        """Nothing more of the request is on its way."""
        self.response_complete = False
        """uvicorn's protocol reads this of a connection's newest request."""
        self.phase: Phase = "queued"
        self.route: LiveRoute | None = None
        """Whom it is for, once that is known."""
        self.work: Work[LiveBackend] | None = None
        """What the scheduler has of it."""
        self.key = key
        self.prompt_tokens = 0
        """Estimated."""
        self.charged_tokens = 0
        """What the key was charged, until it is told of the end."""
        self.body = b""
        """The request's body while it may have to be sent; while it comes in, its first piece,
        most often all of it."""
        self.assembly: Assembly | None = None
        """Its embeddings, if its texts travel with others' or in parts."""
        self.batches: set[BatchCall] | None = None
        """The calls that carry them now; None: it was not cut."""
        self.decision = ("", "")
        """Policy and reason of the newest of these."""
        self.error_code = ""
        """Of the error that this router answered with, or broke its answer off for."""
        self._dispatcher = dispatcher
        self._endpoint = endpoint
        self._refusal = refusal
        self._delivery: Delivery | None = None
        self._body_pieces: RequestBody | None = None
        """The whole body, if it has come in more than one."""
        self._held_bytes = 0
        """What it has of the process' budget for bodies."""
        self._reads_seen = 0
        self._wait_ends_at = inf
        self.started_at = dispatcher.clock()
        self._deadline_timer: asyncio.TimerHandle | None = None
        dispatcher.exchanges.add(self)

    # The request, called by the client's connection.

    def take_turn(self) -> None:
        """All earlier requests of the connection are answered: this one may write."""
        self.wait_for("receiving", self._dispatcher.limits.upload_s)
        if self._refusal is not None and not self.keep_alive:
            self.fail(self._refusal)
        elif self.is_received:
            self.complete_body()
        elif self.head.expects_continue and self._refusal is None:
            self._invite_body()

    def _invite_body(self) -> None:
        if not self.head.is_http10 and not self._held_bytes:
            self.client.transport.write(answers.CONTINUE)

    def add_body(self, piece: bytes) -> None:
        """A piece of the body has come.

        Raises:
            RouterError: it is more than the router takes.
        """
        dispatcher = self._dispatcher
        limits = dispatcher.limits
        size = len(piece)
        if not self._held_bytes:
            self.body = piece
        elif self._body_pieces is None:
            self._body_pieces = RequestBody(self.body, piece)
        else:
            self._body_pieces.add(piece)
        self._held_bytes = own = self._held_bytes + size
        dispatcher.held_body_bytes = total = dispatcher.held_body_bytes + size
        if own > limits.max_body_bytes:
            raise body_too_large(limits)
        if total > limits.body_budget_bytes:
            raise dispatcher.overload("request bodies in memory")

    def complete_body(self) -> None:
        """The body is complete: place the request, if it is its turn."""
        self.is_received = True
        if self.phase != "receiving":
            return
        try:
            if self._refusal is not None or self._endpoint is None:
                raise self._refusal or RouterError("no route", "internal_error")
            if self._body_pieces is not None:
                self.body = self._body_pieces.take()
            self._dispatcher.admission.submit(self, self._endpoint)
        except RouterError as error:
            self.fail(error)

    def refuse(self, error: RouterError) -> None:
        """Answer with `error` in turn and close the connection: what comes next is unreadable."""
        self.keep_alive = False
        if self.phase == "queued":
            self._refusal = error
        else:
            self.fail(error)

    def client_left(self) -> None:
        """The client's connection is gone: whatever was begun for it stops now."""
        if self.response_complete:
            return
        self._dispatcher.counters.client_disconnects += 1
        self.error_code = CLIENT_CLOSED
        if self._delivery is not None:
            self._delivery.drop_connection()
        self.end(CLIENT_CLOSED_REQUEST)

    def pause(self) -> None:
        """The client does not read: neither is its engine read."""
        if self._delivery is not None:
            self._delivery.pause()
        if self.phase == "streaming":
            self.wait_for("paused", self._dispatcher.limits.stall_s)

    def resume(self) -> None:
        """The client reads again."""
        if self._delivery is not None:
            self._delivery.resume()
        if self.phase == "paused":
            self.wait_for("streaming", self._dispatcher.limits.gap_s)

    # On its way.

    def deliver(self, delivery: Delivery) -> None:
        """It has a place of its own: send it there."""
        self._delivery = delivery
        delivery.start()

    def wait_again(self, limit_s: float) -> None:
        """The place had no room: it has none again, and may wait for one so long."""
        self._delivery = None
        self.wait_for("scheduling", limit_s)

    def set_deadline(self, deadline_s: float) -> float:
        """Allow `deadline_s` from the request's head on; returns when that ends.

        Deadlines are rare and may be shorter than a sweep: they have timers of their own. One
        that is later than the process' own limit does nothing.
        """
        total_s = self._dispatcher.limits.total_s
        if deadline_s >= total_s:
            return self.started_at + total_s
        expires_at = self.started_at + deadline_s
        delay = max(0.0, expires_at - self._dispatcher.clock())
        self._deadline_timer = self._dispatcher.call_later(delay, self._expire)
        return expires_at

    # Limits.

    def wait_for(self, phase: Phase, limit_s: float) -> None:
        """Enter a phase that may last `limit_s`."""
        self.phase = phase
        self._wait_ends_at = self._dispatcher.now + limit_s

    def tick(self, now: float) -> None:
        """Compare with the limits; called by the sweep."""
        if now >= self.started_at + self._dispatcher.limits.total_s:
            self._expire()
            return
        if self.phase == "streaming" and self._delivery is not None:
            relay = self._delivery.relay
            if relay is not None and relay.reads != self._reads_seen:
                # reads do not touch timers: they are only counted
                self._reads_seen = relay.reads
                self._wait_ends_at = now + self._dispatcher.limits.gap_s
        if now >= self._wait_ends_at:
            self._waited_too_long()

    def _expire(self) -> None:
        if self._deadline_timer is not None:
            message = "the request's deadline (x-sagepool-deadline-ms) has passed"
            self.fail(TimedOut(message, "deadline_exceeded"))
        else:
            total_s = self._dispatcher.limits.total_s
            message = f"the request took longer than {total_s:g} s (--total-timeout-seconds)"
            self.fail(TimedOut(message, "request_timeout"))

    def _waited_too_long(self) -> None:
        if self.phase == "receiving":
            self.refuse(body_timed_out())
        elif self.phase == "paused":
            reset(self.client.transport)  # a body that ends by closing would look whole
            self.client_left()
        elif self.phase == "scheduling":
            self.fail(self._dispatcher.admission.waited_too_long(self))
        else:
            if self._delivery is not None:
                self._delivery.timed_out()
            self.fail(TimedOut("the engine is silent"))

    # The end.

    def fail(self, error: RouterError) -> None:
        """Answer with `error`, or break off an answer that has begun."""
        if self.response_complete:
            return
        if self.phase == "queued":
            self._refusal = error  # told in turn
            return
        self.error_code = error.code
        relay: AnswerRelay | None = None
        if self._delivery is not None:
            self._delivery.drop_connection()
            relay = self._delivery.relay
        if relay is None:
            self._answer(error)
        else:
            self._break_off(relay, error)
        self.end(error.status)

    def answer(
        self, status: int, body: bytes, call: Call[LiveBackend], usage: Usage | None = None
    ) -> None:
        """Answer with JSON, in the name of the instance that the call went to."""
        if self.response_complete:
            return
        start = call.place.answer_fields(call.policy, call.reason)
        if self.key is not None:
            start = self.key.answer_fields(self._dispatcher.clock()) + start
        self.client.transport.write(
            answers.json_answer(
                status,
                body,
                self.head.request_id,
                start=start,
                keep_alive=self.keep_alive,
            )
        )
        self.end(status, usage)

    def _answer(self, error: RouterError) -> None:
        if not self.is_received:
            self.keep_alive = False
        self.client.transport.write(
            answers.error_answer(
                error,
                self.head.request_id,
                keep_alive=self.keep_alive,
                head_only=self.head.method == b"HEAD",
            )
        )

    def _break_off(self, relay: AnswerRelay, error: RouterError) -> None:
        is_told = relay.break_off(error, "chat" if self._endpoint is None else self._endpoint.kind)
        if self.head.is_http10 and not self.keep_alive and not is_told:
            reset(self.client.transport)  # a body that ends by closing would look whole
        self.keep_alive = False

    def hold(self, size: int) -> None:
        """Count copies of parts of the body, which are kept as long as itself."""
        self._held_bytes += size
        self._dispatcher.held_body_bytes += size

    def release_body(self) -> None:
        """The body is not needed any more."""
        self.body = b""
        self._dispatcher.held_body_bytes -= self._held_bytes
        self._held_bytes = 0

    def end(self, status: int, usage: Usage | None = None) -> None:
        """Give everything back and account for it; all that is to be written is written.

        Args:
            status: of the answer; 499 when the client has left.
            usage: what it cost, if its delivery does not know.
        """
        dispatcher = self._dispatcher
        self.response_complete = True
        self.phase = "ended"
        if self._held_bytes:
            self.release_body()
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        dispatcher.exchanges.discard(self)
        if dispatcher.is_draining:
            dispatcher.note_drained()
        delivery, self._delivery = self._delivery, None
        dispatcher.accounts.close(self, status, delivery, usage)
        self.client.exchange_ended(self)


def owner_of(work: Work[LiveBackend]) -> Exchange:
    """Whom work belongs to: the scheduler does not know, and the router places nothing else.

    Raises:
        TypeError: it is no request's, or its request has ended.
    """
    owner = work.owner
    if not isinstance(owner, Exchange):
        raise TypeError("this work belongs to no request")
    return owner
