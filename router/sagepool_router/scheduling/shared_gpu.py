"""One GPU that llm and embedding work share: who may start there now.

Three rules, in this order:

1. Chat is protected: embeddings are held back while its first token is in danger, or while a chat
   engine says that it is short of room (`hold_back`). Not with embeddingPriority high.
2. While both kinds wait for the GPU, each gets its share of the time (`time_share`). Chat waits
   when it is in the router's queue, or when an engine has had one for longer than it takes to read
   it. While it does not, shares decide only as long as embeddings lose nothing by it: to hold them
   back any longer would give throughput away for a first token that is in no danger.
3. While neither is behind, embeddingPriority says who goes first: high, embeddings; low, chat;
   normal, by arrival; adaptive, embeddings while they are more than 40 % of what waits, until they
   are less than 30 %, and else by arrival.

Never are both held back, and whatever the rules say, neither waits for `MAX_HELD_S` without that
one of it starts.
"""

from heapq import heapify, heappop, heappush
from math import inf
from typing import Final, Literal, TypeAlias

from sagepool_crds.pool import Role
from sagepool_router.scheduling.hold_back import EnginePressure, HoldBack, Shortage
from sagepool_router.scheduling.settings import SchedulingSettings
from sagepool_router.scheduling.time_share import TimeShare

Restraint: TypeAlias = Literal["turn", "first_token"] | Shortage
"""Why embeddings are held back: the other kind's turn, or one of chat's signals."""

MAX_HELD_S: Final = 2.0
"""No rule holds what is due back for longer than this."""
_PATIENT_S: Final = 1.0
"""Embeddings that have waited for less, as in a burst, can still make up for it."""
_MANY: Final = 0.4
_MIN_GARBAGE: Final = 64
_FEW: Final = 0.3


class Demand:
    """What waits for one kind of work on a GPU; kept up to date by the scheduler."""

    __slots__ = ("counted", "oldest_at", "waiting")

    def __init__(self) -> None:
        self.counted = 0
        """Requests in queues, whether they could be served or not."""
        self.waiting = 0
        """Requests in queues that this GPU could serve."""
        self.oldest_at = inf
        """Arrival of the first of them; inf without one."""


class SharedGpu:
    """The state of one GPU that both kinds use.

    Args:
        settings: of the pool.
    """

    __slots__ = (
        "_embedding_began_at",
        "_embeddings_first",
        "_llm_placed_at",
        "_oldest",
        "_placed",
        "_priority",
        "_unanswered",
        "calls",
        "chats",
        "engines",
        "held_back_by",
        "hold_back",
        "is_hybrid",
        "may_start_embedding",
        "may_start_llm",
        "time_share",
    )

    def __init__(self, settings: SchedulingSettings) -> None:
        self.hold_back = HoldBack(settings.targets.chat_ttft_s)
        self.engines = EnginePressure()
        self.time_share = TimeShare(settings.hybrid_instance_ratio)
        self.is_hybrid = settings.policy == "hybrid"
        self._priority = settings.embedding_priority
        self.calls = 0
        """Embedding calls under way."""
        self.chats = 0
        """Chats under way, answered or not."""
        self._unanswered: dict[object, float] = {}
        """Chats placed here that wait for their first byte: when they arrived."""
        self._oldest: list[tuple[float, int, object]] = []
        """The same as a heap, with some that do not wait any more."""
        self._placed = 0
        self._embeddings_first = False
        self._llm_placed_at = 0.0
        self._embedding_began_at = 0.0
        self.may_start_llm = True
        self.may_start_embedding = True
        self.held_back_by: Restraint | None = None
        """Why no embedding may start, but for what is overdue; None: it may."""

    def configure(self, settings: SchedulingSettings) -> None:
        """Follow a change of the pool; what was learnt stays."""
        self.hold_back.target_s = settings.targets.chat_ttft_s
        self.time_share.embedding_share = 1.0 - settings.hybrid_instance_ratio
        self.is_hybrid = settings.policy == "hybrid"
        self._priority = settings.embedding_priority

    @property
    def llm_unanswered(self) -> int:
        """Chats placed here that wait for their first byte."""
        return len(self._unanswered)

    # What happens here.

    def llm_placed(
        self, work: object, arrived_at: float, now: float, *, streams: bool = True
    ) -> None:
        """A chat goes to this GPU.

        Of an answer that does not stream nothing is seen until its end, so how long it takes says
        nothing of its first token and holds nothing back.
        """
        self._unanswered[work] = arrived_at
        self.chats += 1
        self._llm_placed_at = now
        if not streams:
            return
        self._placed += 1
        heappush(self._oldest, (arrived_at, self._placed, work))
        if len(self._oldest) > _MIN_GARBAGE + 2 * len(self._unanswered):
            self._oldest = [entry for entry in self._oldest if entry[2] in self._unanswered]
            heapify(self._oldest)

    def llm_answered(self, work: object, now: float) -> None:
        """Its stream has begun."""
        arrived_at = self._unanswered.pop(work, None)
        if arrived_at is not None:
            self.hold_back.observe_first_token(now - arrived_at)

    def llm_left(self, work: object) -> None:
        """It has ended, maybe without an answer."""
        self._unanswered.pop(work, None)
        self.chats -= 1

    def embedding_began(self, now: float) -> None:
        """An embedding call starts here."""
        self.calls += 1
        self._embedding_began_at = now
        self.hold_back.embedding_began()

    def embedding_ended(self) -> None:
        """An embedding call has ended."""
        self.calls -= 1

    def observe_engine(self, now: float, engine: str, waiting: int, kv_use: float) -> None:
        """A chat engine on this GPU has said how it is; `judge` takes it in when it comes to it.

        Args:
            now: clock time; somewhat late is fine.
            engine: its name.
            waiting: requests that wait inside it, whoever sent them.
            kv_use: the part of its KV cache that is in use, 0 to 1.
        """
        self.engines.observe(now, engine, waiting, kv_use)

    # What may happen.

    def is_wanted_by_llm(self, now: float) -> bool:
        """Whether chats that are placed here, or an account that runs, may hold embeddings back."""
        if self._unanswered or self.time_share.is_contended:
            return True
        return self.chats > 0 and now < self.engines.until

    def judge(self, now: float, llm: Demand, embeddings: Demand) -> bool:
        """Decide anew who may start; True if that has changed.

        To be called after everything that happens here.
        """
        before = (self.may_start_llm, self.may_start_embedding)
        is_short = now < self.engines.until and self._is_short(now, embeddings)
        # a stream that has begun counts only if the engine is short: it may be stalled then
        llm_wants = is_short or llm.waiting > 0 or bool(self._unanswered)
        embeddings_want = embeddings.waiting > 0 or self.calls > 0
        is_shared = llm_wants and self._is_shared(now, llm, embeddings)
        self.time_share.advance(
            now, is_contended=is_shared and embeddings_want, is_used=self.calls > 0
        )
        self.hold_back.tick(now, self.calls)
        self.may_start_llm = self.may_start_embedding = True
        self.held_back_by = None
        if self.is_hybrid and llm_wants:
            turn = (self.time_share.turn if is_shared else None) or self._first(llm, embeddings)
            self.held_back_by = self._restraint(now, llm, turn, is_short=is_short)
            if self.held_back_by is not None:
                self.may_start_embedding = not self.calls and _is_overdue(
                    now, embeddings, self._embedding_began_at
                )
            elif turn == "embedding" and embeddings.waiting:
                self.may_start_llm = _is_overdue(now, llm, self._llm_placed_at)
        return before != (self.may_start_llm, self.may_start_embedding)

    def _is_shared(self, now: float, llm: Demand, embeddings: Demand) -> bool:
        """Whether shares of time decide; a ratio of 0 or 1 is meant to the letter."""
        if llm.waiting or self.time_share.is_strict or now - embeddings.oldest_at < _PATIENT_S:
            return True
        return self.hold_back.is_waiting(now - self._oldest_unanswered_at(now))

    def _is_short(self, now: float, embeddings: Demand) -> bool:
        """Whether chat is under way here in an engine that is short, as a fresh reading says.

        If it stays so for as long as embeddings may be held, they are not the reason, and holding
        them back any longer would only change the shares of time.
        """
        if not self.chats or self._priority == "high":
            return False
        held_since = max(self.engines.since, self._embedding_began_at)
        if not self.calls and _is_overdue(now, embeddings, held_since):
            self.engines.give_up(now)
            return False
        return True

    def _restraint(
        self, now: float, llm: Demand, turn: Role | None, *, is_short: bool
    ) -> Restraint | None:
        if is_short:
            return self.engines.cause
        if turn == "llm":
            return "turn"
        return "first_token" if self._is_held_back(now, llm) else None

    def _is_held_back(self, now: float, llm: Demand) -> bool:
        if self._priority == "high":
            return False
        oldest_at = min(self._oldest_unanswered_at(now), llm.oldest_at)
        return not self.hold_back.may_start(self.calls, now - oldest_at)

    def _oldest_unanswered_at(self, now: float) -> float:
        oldest = self._oldest
        while oldest and oldest[0][2] not in self._unanswered:
            heappop(oldest)
        return oldest[0][0] if oldest else now

    def _first(self, llm: Demand, embeddings: Demand) -> Role | None:
        """Who has precedence while neither is behind; None: whoever comes."""
        priority = self._priority
        if priority == "adaptive":
            waiting = llm.waiting + len(self._unanswered) + embeddings.waiting
            limit = _FEW if self._embeddings_first else _MANY
            self._embeddings_first = embeddings.waiting > limit * waiting
            priority = "high" if self._embeddings_first else "normal"
        if priority == "high":
            return None if self.calls else "embedding"
        if priority == "low":
            return "llm"
        # by arrival, of what waits; a call under way means that embeddings have had their turn
        if not (llm.waiting and embeddings.waiting):
            return None
        if llm.oldest_at < embeddings.oldest_at:
            return "llm"
        return None if self.calls else "embedding"


def _is_overdue(now: float, demand: Demand, started_at: float) -> bool:
    """Something is due, and nothing of its kind has started here for too long."""
    return demand.waiting > 0 and now - max(demand.oldest_at, started_at) >= MAX_HELD_S
