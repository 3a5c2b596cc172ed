"""One embedding call that carries texts of several requests, or a part of a large one.

The answer is read whole and cut, so that each caller gets what it would have got alone. A call
that an engine refuses is tried again in halves: in the end only the request that cannot be
answered gets the engine's error. Texts of a call that an engine has no room for wait again.
"""

from math import inf
from typing import TYPE_CHECKING

from sagepool_router.attempts import ERRORS, Attempts
from sagepool_router.backend import LiveBackend
from sagepool_router.embedding.answer import EmbeddingAnswer, read_answer
from sagepool_router.embedding.assembly import Assembly, shares
from sagepool_router.embedding.merge import write_request
from sagepool_router.engine_error import to_openai
from sagepool_router.errors import EngineFailed, RouterError, TimedOut
from sagepool_router.exchange import Exchange, owner_of
from sagepool_router.phase import Phase
from sagepool_router.scheduling.embedding_work import Slice
from sagepool_router.scheduling.scheduler import Call
from sagepool_router.upstream import UpstreamConnection
from sagepool_router.usage import Usage

if TYPE_CHECKING:
    from sagepool_router.dispatcher import Dispatcher

_OVERLOADED = frozenset((429, 503))
"""Half a call would be refused as the whole was."""


class BatchCall(Attempts):
    """Texts on their way to an engine, and their embeddings on the way back.

    Args:
        dispatcher: the process' shared state.
        call: the texts, and where they go first.
    """

    __slots__ = ("_phase", "_pieces", "_size", "_slices", "_status", "_wait_ends_at")

    def __init__(self, dispatcher: "Dispatcher", call: Call[LiveBackend]) -> None:
        self._slices = tuple(call.slices)
        texts: list[bytes] = []
        for piece in self._slices:
            texts += _assembly(piece).request.texts[piece.begin : piece.end]
        parameters = _assembly(self._slices[0]).request.parameters
        super().__init__(dispatcher, call, write_request(call.lane.model, parameters, texts))
        dispatcher.held_body_bytes += len(self._body)
        avoids = dict.fromkeys([p for piece in self._slices for p in piece.work.avoids])
        self._failed = self._tried = tuple(avoids)
        self._phase: Phase = "queued"
        self._wait_ends_at = inf
        self._status = 0
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return any(not owner_of(piece.work).response_complete for piece in self._slices)

    def tick(self, now: float) -> None:
        """Compare with the limits; called by the sweep."""
        if now >= self._wait_ends_at:
            self.timed_out()
            self.charge_time()
            self._fail(TimedOut("the engine is silent"))

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self.charge_time()
        self.drop_connection()
        self._end()

    # Attempts.

    def _enter(self, phase: Phase, limit_s: float) -> None:
        self._phase = phase
        self._wait_ends_at = self._dispatcher.now + limit_s

    def _is_connecting(self) -> bool:
        return self._phase == "connecting"

    def _head(self) -> bytes:
        backend = self.call.place
        return (
            b"%b/v1/embeddings%bcontent-type: application/json\r\nx-request-id: %b\r\n"
            b"content-length: %d\r\n\r\n"
            % (
                backend.request_start,
                backend.request_fields,
                owner_of(self._slices[0].work).head.request_id,
                len(self._body),
            )
        )

    def _fail(self, error: RouterError) -> None:
        self.drop_connection()
        owners = self._owners()
        self._end()
        for owner in owners:
            owner.fail(error)

    def _restart(self) -> None:
        self._pieces.clear()
        self._size = 0

    def _requeue(self) -> bool:
        wanted = [piece for piece in self._slices if not owner_of(piece.work).response_complete]
        if not wanted or not self._dispatcher.scheduler.requeue(self.call, wanted):
            return False
        self.drop_connection()
        for piece in wanted:
            self._wait_again(owner_of(piece.work))
        self._end()
        return True

    # The answer (AnswerSink).

    def begin(self, connection: UpstreamConnection) -> None:
        """The head of an answer."""
        self._status = connection.status
        self._enter("streaming", self._dispatcher.limits.gap_s)
        super().begin(connection)

    def receive(self, data: bytes) -> None:
        """A part of the answer."""
        if self._connection is None:
            return
        self._pieces.append(data)
        self._size += len(data)
        self._enter("streaming", self._dispatcher.limits.gap_s)
        if self._size > self._dispatcher.limits.max_batch_answer_bytes:
            self._fail(EngineFailed("the engine's answer is too large"))

    def finish(self) -> None:
        """The answer is complete."""
        self._connection = None
        body = b"".join(self._pieces)
        if self._status >= ERRORS:
            self._refused(body)
            return
        try:
            answer = read_answer(body, self.call.texts)
        except RouterError as error:
            self._fail(error)
            return
        if self.call.place.failures:
            self.call.place.succeeded()
        self._hand_out(answer)

    def _refused(self, body: bytes) -> None:
        """The engine does not take the call as it is."""
        slices = self._slices
        if len(slices) > 1 and self._status not in _OVERLOADED:
            self._dispatcher.counters.split_batches += 1
            middle = len(slices) // 2
            halves = (slices[:middle], slices[middle:])
            parts = [[p for p in half if not owner_of(p.work).response_complete] for half in halves]
            call = self.call
            self._end()
            for part in parts:
                if part:
                    self._dispatcher.scheduler.divide(call, part)
            return
        call = self.call
        owners = self._owners()
        status = self._status
        self._end()
        for owner in owners:
            owner.answer(status, to_openai(body), call)

    def _hand_out(self, answer: EmbeddingAnswer) -> None:
        call = self.call
        slices = self._slices
        weights = [sum(p.work.text_tokens[p.begin : p.end]) for p in slices]
        now = self._dispatcher.clock()
        self._dispatcher.accounts.measure_call(call, owner_of(call.work), sum(weights), now)
        self._end()
        start = 0
        for piece, (prompt, total) in zip(slices, shares(answer, weights), strict=True):
            end = start + piece.end - piece.begin
            owner = owner_of(piece.work)
            if not owner.response_complete:
                assembly = _assembly(piece)
                if assembly.add(piece.begin, answer.embeddings[start:end], prompt, total):
                    owner.answer(
                        200,
                        assembly.write(answer, f"embd-{owner.head.request_id.decode()}"),
                        call,
                        Usage(assembly.prompt_tokens, 0),
                    )
            start = end

    def _owners(self) -> list[Exchange]:
        return list(dict.fromkeys(owner_of(piece.work) for piece in self._slices))

    def _end(self) -> None:
        """Give the place back; before its callers are told, so that what waits starts at once."""
        self._phase = "ended"  # a connection that is still being opened is not wanted any more
        self._wait_ends_at = inf
        self._dispatcher.held_body_bytes -= len(self._body)
        self._body = b""
        for piece in self._slices:
            batches = owner_of(piece.work).batches
            if batches is not None:
                batches.discard(self)
        self._dispatcher.batch_ended(self)


def _assembly(piece: Slice[LiveBackend]) -> Assembly:
    found = owner_of(piece.work).assembly
    if found is None:
        raise RuntimeError("a batch carries a request that was never cut")
    return found
