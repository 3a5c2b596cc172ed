"""The queue of one model and the way to its instances."""

from collections.abc import Collection, Sequence
from math import inf
from typing import Final, Generic

from sagepool_crds.pool import Role
from sagepool_router.scheduling.company import Companies
from sagepool_router.scheduling.drain_rate import DrainRate
from sagepool_router.scheduling.embedding_work import EmbeddingWork, Slice
from sagepool_router.scheduling.fair_share import FairShare
from sagepool_router.scheduling.instance import InstanceT
from sagepool_router.scheduling.placement import Choice, Placement
from sagepool_router.scheduling.policies import (
    SIMPLE,
    AdaptiveChoice,
    Outlook,
    PlacementRule,
    Policy,
)
from sagepool_router.scheduling.settings import LlmPolicyName, SchedulingSettings
from sagepool_router.scheduling.waiting_queue import WaitingQueue
from sagepool_router.scheduling.work import PRIORITIES, Work

_NEWEST: Final = 0.1
"""Weight of the newest sample in moving averages."""
_INSTANT_S: Final = 1e-6
"""Too short to set a timer for."""


class Lane(Generic[InstanceT]):
    """What waits for one model in one role; it outlives tables.

    Args:
        model: the name that engines know.
        kind: llm or embedding.
        settings: of the pool.
    """

    __slots__ = (
        "_adaptive",
        "_adapts",
        "_demotes",
        "_policy",
        "_rules",
        "companies",
        "expected_output",
        "is_served",
        "kind",
        "label",
        "merges",
        "model",
        "outlook",
        "placement",
        "queue",
        "rate",
        "settings",
        "shares",
    )

    def __init__(self, model: str, kind: Role, settings: SchedulingSettings) -> None:
        self.model = model
        self.kind = kind
        self.shares = FairShare()
        self.queue: WaitingQueue[InstanceT] = WaitingQueue(self.shares)
        self.rate = DrainRate()
        self.outlook = Outlook(settings.targets)
        self.placement: Placement[InstanceT] = Placement((), lambda: 0.0, prefers_specialized=False)
        self.expected_output = 64.0
        """Tokens that an answer has at present, for requests that do not say."""
        self.is_served = False
        """It is being served: releases meanwhile need not serve it again."""
        self.merges = False
        """Embedding requests travel together and are split."""
        self.settings = settings
        self._adaptive = AdaptiveChoice()
        self._adapts = False
        self._demotes = False
        """Its policy lets late work stand back."""
        self._policy: Policy = SIMPLE["fifo"]
        self._rules = _rules(self._policy)
        """How places are chosen, by priority."""
        self.label = ""
        """Who decides, for people: hybrid/adaptive/fifo."""
        self.companies: Companies[InstanceT] = Companies()
        """What waits and can be merged."""
        self._select()

    # Settings.

    def configure(self, settings: SchedulingSettings) -> None:
        """Follow a change of the pool: what waits is ordered anew and nothing is lost."""
        self.settings = settings
        self.outlook.targets = settings.targets
        self._select()
        self._rerank()

    def review(self, now: float) -> None:
        """Take in what has changed since the last call; called by the sweep and on queueing."""
        queue, shares = self.queue, self.shares
        shares.measure(now)
        is_other = self._adapts and now >= self._adaptive.stands_until and self._choose_policy(now)
        if is_other or (queue.count and queue.is_mistimed):
            self._rerank()

    def share(self, shares: FairShare) -> None:
        """Order what waits together with the other models of the same instances."""
        if shares is not self.shares:
            self.queue.move(shares)
            self.shares = shares
            self._rerank()

    def _choose_policy(self, now: float) -> bool:
        queue, outlook, placement = self.queue, self.outlook, self.placement
        outlook.waiting = len(queue)
        outlook.waiting_deadlines = queue.deadlines
        outlook.waiting_priorities = len(queue.priorities)
        outlook.load = placement.load
        outlook.prices_differ = placement.prices_differ
        return self._adaptive.choose(outlook, now) and self._select()

    @property
    def reason(self) -> str:
        """Why the policy in use is the one."""
        return self._adaptive.reason if self._adapts else "spec.scheduling says so"

    def _select(self) -> bool:
        """Use the policy that settings and adaptive choice name; True if it is another one."""
        before = self._policy
        settings = self.settings
        parts: list[str] = []
        name: LlmPolicyName
        if settings.policy == "hybrid":
            parts.append("hybrid")
            name = settings.llm_policy if self.kind == "llm" else "fifo"
        else:
            name = settings.policy
        self.merges = settings.policy == "hybrid" and self.kind == "embedding"
        self._adapts = name == "adaptive"
        parts.append(name)
        if name == "adaptive":
            name = self._adaptive.name
            parts.append(name)
        self._policy = SIMPLE[name]
        self._rules = _rules(self._policy)
        self._demotes = name == "slo_aware"
        self.label = "/".join(parts)
        return self._policy is not before

    def _rerank(self) -> None:
        policy, outlook = self._policy, self.outlook
        self.queue.rerank(lambda work: policy.patience_s(work, work.arrived_at, outlook))
        self.companies.rebuild()

    # Work.

    def wait(self, work: Work[InstanceT], now: float) -> None:
        """Charge the work's flow for it and put it into the queue."""
        work.start_tag = self.shares.charge(work.flow, work.weight, work.tokens)
        work.is_late = False
        self.queue.push(work, self._policy.patience_s(work, now, self.outlook))
        if isinstance(work, EmbeddingWork):
            self.companies.add(work)
        self.review(now)

    def next(self, now: float) -> Work[InstanceT] | None:
        """What is due; work that is too late by its policy stands back once."""
        while (work := self.queue.peek()) is not None:
            if (
                not self._demotes
                or work.is_late
                or not self._policy.is_late(work, now, self.outlook)
            ):
                return work
            work.is_late = True
            self.queue.put_back(self._policy.patience_s(work, now, self.outlook))
        return None

    def rank(self) -> float:
        """Of what is next: comparable between lanes of the same instances."""
        work = self.queue.peek()
        return inf if work is None else work.rank

    def due_at(self) -> float:
        """Since when what is next should have been placed: comparable between lanes."""
        work = self.queue.peek()
        if work is None:
            return inf
        return work.arrived_at + self._policy.patience_s(work, work.arrived_at, self.outlook)

    def cancel(self, work: Work[InstanceT]) -> None:
        """Work that waits is not wanted any more; what it has not had is given back."""
        tokens = work.tokens
        self.queue.take(work)
        if isinstance(work, EmbeddingWork):
            self.companies.remove(work)
            if work.taken:
                tokens = tokens * work.untaken // work.texts
        work.state = "done"
        self.shares.refund(work.flow, work.weight, tokens)

    def take(self, work: Work[InstanceT], now: float, tokens: int | None = None) -> None:
        """Work, or the last `tokens` of it, leaves the queue for an engine."""
        tokens = work.tokens if tokens is None else tokens
        self.shares.advance(work.start_tag, tokens, work.weight)
        self.queue.take(work)
        self.rate.started(now)

    def pass_by(self, work: Work[InstanceT], now: float) -> None:
        """Charge the flow of work that is placed without waiting."""
        shares, tokens, weight = self.shares, work.tokens, work.weight
        work.start_tag = start_tag = shares.charge(work.flow, weight, tokens)
        shares.advance(start_tag, tokens, weight)
        work.state = "placed"
        self.rate.started(now)

    def take_batch(self, work: EmbeddingWork[InstanceT], now: float) -> Sequence[Slice[InstanceT]]:
        """The texts that go with work that is due; who is complete leaves the queue."""
        settings = self.settings
        if not self.merges:
            self.take(work, now)
            self.companies.remove(work)
            return work.take_all()
        slices = self.companies.take_batch(
            work,
            max_texts=settings.embedding_batch_size,
            max_tokens=settings.embedding_batch_tokens,
        )
        for piece in slices:
            tokens = piece.work.tokens * (piece.end - piece.begin) // piece.work.texts
            if piece.work.untaken:
                self._take_part(piece.work, tokens)
            else:
                self.take(piece.work, now, tokens)
        return slices

    def is_full(self, slices: Sequence[Slice[InstanceT]], texts: int) -> bool:
        """Whether a call of these, so many texts, has no room for another of their mean size."""
        if texts >= self.settings.embedding_batch_size:
            return True
        tokens = 0
        for piece in slices:
            tokens += sum(piece.work.text_tokens[piece.begin : piece.end])
        return tokens + tokens // texts > self.settings.embedding_batch_tokens

    def _take_part(self, work: Work[InstanceT], tokens: int) -> None:
        """A part of a large request leaves; what is left of it is due when its flow is again."""
        self.shares.advance(work.start_tag, tokens, work.weight)
        later = tokens / work.weight
        work.start_tag += later
        work.rank += later

    def take_back(
        self,
        work: Work[InstanceT],
        slices: Sequence[Slice[InstanceT]],
        room: int,
    ) -> int | None:
        """Let work wait again that an instance had no room for, in its old turn.

        Nobody is charged twice, and virtual time does not go back.

        Args:
            work: what was sent.
            slices: texts of it and of others, if it was embeddings.
            room: so many more may wait.

        Returns:
            how many more wait; None if that would be too many: then nothing has changed.
        """
        works: list[Work[InstanceT]] = [*dict.fromkeys([piece.work for piece in slices])]
        works = works or [work]
        returning = [each for each in works if each.state != "waiting"]
        if len(returning) > room:
            return None
        for piece in slices:
            if piece.work.state == "waiting":
                self.companies.give_back(piece.work, piece.begin, piece.end)
            else:
                piece.work.give_back(piece.begin, piece.end)
        for each in reversed(returning):
            if not isinstance(each, EmbeddingWork) or each.untaken == each.texts:
                each.place = None  # no engine has worked for it
            arrived_at = each.arrived_at
            self.queue.take_back(each, self._policy.patience_s(each, arrived_at, self.outlook))
            if isinstance(each, EmbeddingWork):
                self.companies.add(each)
        return len(returning)

    def is_large(self, work: EmbeddingWork[InstanceT]) -> bool:
        """It has to be cut into several calls, as far as is known."""
        settings = self.settings
        return (
            self.merges
            and work.texts > 1
            and (
                work.texts > settings.embedding_batch_size
                or work.tokens > settings.embedding_batch_tokens
            )
        )

    def ready(
        self, work: EmbeddingWork[InstanceT], now: float
    ) -> tuple[EmbeddingWork[InstanceT] | None, float]:
        """What may go to an instance that is busy: the work that is due, or what need not wait.

        What need not wait for company is a full call, or one that has waited. If there is none:
        the seconds until there will be.
        """
        settings = self.settings
        wait_s = settings.max_embedding_wait_s
        if not self.merges or not wait_s or work.parameters is None:
            return work, 0.0
        ready, opened_at = self.companies.ready(
            work,
            now - wait_s + _INSTANT_S,
            max_texts=settings.embedding_batch_size,
            max_tokens=settings.embedding_batch_tokens,
        )
        return ready, opened_at + wait_s - now

    def choose(
        self, work: Work[InstanceT], now: float, excluded: Collection[InstanceT] = ()
    ) -> Choice[InstanceT] | None:
        """The place for work; None while none has room."""
        return self.placement.choose(work, self._rules[work.priority], now, excluded or work.avoids)

    def observe(self, seconds: float) -> None:
        """A request has been answered so long after its placement."""
        outlook = self.outlook
        known = outlook.service_s
        outlook.service_s = known + _NEWEST * (seconds - known) if known else seconds

    def observe_output(self, tokens: int) -> None:
        """An answer had so many tokens."""
        self.expected_output += _NEWEST * (tokens - self.expected_output)

    def drain(self) -> list[Work[InstanceT]]:
        """Take all that waits out, in its order."""
        works = self.queue.waiting()
        for work in works:
            self.cancel(work)
        return works


def _rules(policy: Policy) -> tuple[PlacementRule, ...]:
    return tuple(policy.placement(priority) for priority in range(PRIORITIES))
