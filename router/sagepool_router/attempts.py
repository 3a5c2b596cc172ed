"""A call on its way to an engine: attempts until an answer begins.

Until the answer's first byte has been used, a failed attempt can be followed by one on another
backend. A call never goes to the same backend twice, except once when a reused connection turned
out to have been closed by the engine. What a backend has no room for waits again, as if it had
not been sent; it stays away from those that have failed it before.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from sagepool_router.backend import LiveBackend
from sagepool_router.errors import EngineFailed, RouterError
from sagepool_router.phase import Phase
from sagepool_router.retries import (
    TOO_MANY_REQUESTS,
    Cause,
    allows_retry,
    is_retryable,
    read_retry_after,
)
from sagepool_router.scheduling.scheduler import Call
from sagepool_router.upstream import UpstreamConnection

if TYPE_CHECKING:
    from sagepool_router.dispatcher import Dispatcher
    from sagepool_router.exchange import Exchange

ERRORS: Final = 400


class Attempts(ABC):
    """The engine's side of a call; an AnswerSink for its connection.

    A subclass says what is sent, where the answer goes, and how its owner learns what happens.

    Args:
        dispatcher: the process' shared state.
        call: where the scheduler has placed it, and charged for it.
        body: what is sent.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_dispatcher",
        "_failed",
        "_is_failure",
        "_is_sent",
        "_retries",
        "_tried",
        "call",
    )

    def __init__(self, dispatcher: "Dispatcher", call: Call[LiveBackend], body: bytes) -> None:
        self.call = call
        self._dispatcher = dispatcher
        self._body = body
        self._failed = self._tried = call.work.avoids
        """Of those that were tried, all but what was only full."""
        self._retries = len(self._failed)
        self._connection: UpstreamConnection | None = None
        self._is_failure = False
        """The engine's status says that another one may do better."""
        self._is_sent = False
        """An engine has it, or had it when it was left."""

    # For a subclass to say.

    @abstractmethod
    def _enter(self, phase: Phase, limit_s: float) -> None:
        """It waits for something, at most so long."""

    @abstractmethod
    def _is_connecting(self) -> bool:
        """Whether it waits for a connection."""

    @abstractmethod
    def _head(self) -> bytes:
        """The request's head as the backend gets it."""

    @abstractmethod
    def _fail(self, error: RouterError) -> None:
        """There will be no answer."""

    @abstractmethod
    def _restart(self) -> None:
        """Forget what came of the last attempt."""

    @abstractmethod
    def _requeue(self) -> bool:
        """End, and have what is carried wait for a place again; False if it cannot."""

    # Attempts.

    def start(self) -> None:
        """Send the request to the backend that it was placed on, unless that one has failed it."""
        if self._failed and self.call.place in self._failed:
            self._evade()
        connection = self.call.place.pool.take()
        if connection is None:
            self._connect()
        else:
            self.connected(connection)

    def awaits_connection(self, backend: LiveBackend) -> bool:
        """Whether a connection to this backend is still wanted."""
        return self.call.place is backend and self._connection is None and self._is_connecting()

    def connected(self, connection: UpstreamConnection) -> None:
        """There is a connection to the backend, a new one or an idle one: send the request."""
        self._connection = connection
        self._is_sent = True
        self._enter("waiting", self._dispatcher.limits.first_byte_s)
        connection.send(self, self._head(), self._body)

    def connect_failed(self, reason: str) -> None:
        """The backend could not be reached."""
        if not self._retry("connect"):
            name = self.call.place.name
            self._fail(EngineFailed(f"instance {name}: {reason}", "engine_unreachable"))

    def charge_time(self) -> None:
        """It is left before it was answered: an engine that had it has worked all the same."""
        if self._is_sent:
            self._dispatcher.accounts.charge(self.call)

    def drop_connection(self) -> None:
        """Break off what is under way at the engine."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def timed_out(self) -> None:
        """The engine was silent for too long."""
        self.call.place.failed("it was silent for too long", is_connect=False)

    def _evade(self) -> None:
        """It was placed for others that travel with it, or because that one idles."""
        choice = self._dispatcher.admission.alternative(self.call, self._failed)
        if choice is not None:
            self._dispatcher.scheduler.move(self.call, choice)
            self._dispatcher.accounts.note_retry(self.call)

    def _connect(self) -> None:
        # an attempt has a limit of its own; this one is for the case that it is lost
        self._enter("connecting", 2 * self._dispatcher.limits.connect_s)
        self._dispatcher.connect(self, self.call.place)

    def _retry(self, cause: Cause, *, is_full: bool = False) -> bool:
        """Have another backend do it, if rules, fleet and budget have one: now, or when it has
        room again."""
        if not allows_retry(cause, self._retries):
            return False
        dispatcher = self._dispatcher
        tried = (*self._tried, self.call.place)
        choice = dispatcher.admission.alternative(self.call, tried)
        if choice is None and (is_full or not self._has_other(tried)):
            return False
        # a backend that was never reached has done no work: such a retry adds no load
        if cause != "connect" and not dispatcher.budget.withdraw():
            return False
        dispatcher.counters.count_retry(cause)
        if choice is None:
            self._failed = (*self._failed, self.call.place)
            return self._requeue()
        self.drop_connection()
        self._tried = tried
        if not is_full:
            self._failed = (*self._failed, self.call.place)
        self._retries += 1
        self._is_failure = self._is_sent = False
        self._restart()
        dispatcher.scheduler.move(self.call, choice)
        dispatcher.accounts.note_retry(self.call)
        self.start()
        return True

    def _has_other(self, tried: tuple[LiveBackend, ...]) -> bool:
        """Whether another backend works, and is only full."""
        if self.call.place.is_provider:
            return False  # the body names the provider's model
        members = self.call.lane.placement.members
        return any(member.is_healthy and member not in tried for member in members)

    # The answer (AnswerSink).

    def begin(self, connection: UpstreamConnection) -> None:
        """The head of an answer; it is held back until something follows it.

        An error that another backend may not have is discarded and the request tried there;
        without another backend the engine's own answer is passed on. A backend without room is
        left alone for a while; without another one the request waits until one has room.
        """
        status = connection.status
        place = self.call.place
        if status < ERRORS or not is_retryable(place.facts.engine, status):
            return
        self._is_failure = True
        if status == TOO_MANY_REQUESTS:
            if place.failures:
                place.succeeded()  # full is not dead
            place.refused(read_retry_after(connection.fields))
            if not self._retry("status", is_full=True) and self._requeue():
                self._dispatcher.counters.count_retry("overload")
            return
        # a divided call may be refused for a text in it: that says nothing of the engine
        if self.call.reason != "divided":
            place.failed(f"it answered with status {status}", is_connect=False)
        self._retry("status")

    def _wait_again(self, owner: "Exchange") -> None:
        """Have a request wait within the limit that it had when it waited first."""
        if self._failed and owner.work is not None:
            owner.work.avoids = self._failed
        dispatcher = self._dispatcher
        limit_s = dispatcher.scheduler.settings.queue.max_wait_s
        owner.wait_again(owner.started_at + limit_s - dispatcher.now)

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """A part of the answer's body."""

    @abstractmethod
    def finish(self) -> None:
        """The answer is complete and the connection no longer ours."""

    def engine_failed(self, reason: str) -> None:
        """The answer will not be completed."""
        self._connection = None
        self.call.place.failed(reason, is_connect=False)
        if not self._retry("reset"):
            self._fail(EngineFailed(f"instance {self.call.place.name}: {reason}"))

    def connection_was_stale(self) -> None:
        """Once more on a new connection, which cannot be stale."""
        self._connection = None
        self._is_sent = False
        self._dispatcher.counters.count_retry("stale")
        self._connect()
