"""Embedding requests that may share a call, each in the order of its queue."""

from itertools import islice
from math import inf
from typing import Final, Generic

from sagepool_router.scheduling.embedding_work import EmbeddingWork, Slice, gather
from sagepool_router.scheduling.waiting_queue import RankedHeap
from sagepool_router.scheduling.work import PlaceT

_ASKED: Final = 8


class Company(Generic[PlaceT]):
    """What waits with the same parameters."""

    __slots__ = ("heap", "opened_at", "texts", "tokens")

    def __init__(self) -> None:
        self.heap: RankedHeap[EmbeddingWork[PlaceT]] = RankedHeap()
        self.texts = 0
        """That have not left for an engine."""
        self.tokens = 0
        """Of these, estimated."""
        self.opened_at = inf
        """Since when the call that comes next has been gathering."""


class Companies(Generic[PlaceT]):
    """What waits in one queue and can be merged, by parameters."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[bytes, Company[PlaceT]] = {}

    def of(self, work: EmbeddingWork[PlaceT]) -> Company[PlaceT] | None:
        """Those that it may travel with, itself included; None: it travels alone."""
        return None if work.parameters is None else self._found.get(work.parameters)

    def add(self, work: EmbeddingWork[PlaceT]) -> None:
        """A request waits."""
        if work.parameters is None:
            return
        company = self._found.get(work.parameters)
        if company is None:
            company = self._found[work.parameters] = Company()
        if work.arrived_at < company.opened_at:
            company.opened_at = work.arrived_at
        company.heap.push(work)
        company.texts += work.untaken
        company.tokens += work.untaken_tokens

    def give_back(self, work: EmbeddingWork[PlaceT], begin: int, end: int) -> None:
        """Texts of a request that still waits have come back."""
        company = self.of(work)
        work.give_back(begin, end)
        if company is not None:
            company.texts += end - begin
            company.tokens += sum(work.text_tokens[begin:end])

    def remove(self, work: EmbeddingWork[PlaceT]) -> None:
        """A request has left the queue, and not by `take_batch`."""
        company = self.of(work)
        if company is not None:
            company.texts -= work.untaken
            company.tokens -= work.untaken_tokens
            company.heap.forget()
            self._close(work.parameters, company)

    def ready(
        self,
        head: EmbeddingWork[PlaceT],
        opened_before: float,
        *,
        max_texts: int,
        max_tokens: int,
    ) -> tuple[EmbeddingWork[PlaceT] | None, float]:
        """The first of those that make a full call or were opened before; and when, or the next.

        Those of the head are asked first, of others only a few.
        """
        own = self.of(head)
        earliest = inf
        for company in (*((own,) if own else ()), *islice(self._found.values(), _ASKED)):
            if (
                company.texts >= max_texts
                or company.tokens >= max_tokens
                or company.opened_at <= opened_before
            ):
                return company.heap.peek(), company.opened_at
            earliest = min(earliest, company.opened_at)
        return None, earliest

    def take_batch(
        self, head: EmbeddingWork[PlaceT], *, max_texts: int, max_tokens: int
    ) -> list[Slice[PlaceT]]:
        """The texts that travel with those of the request that is due; see `gather`."""
        company = self.of(head)
        if company is None:
            return gather(head, (), max_texts=max_texts, max_tokens=max_tokens)
        drawn: list[EmbeddingWork[PlaceT]] = []
        while len(drawn) < max_texts and (work := company.heap.pop()) is not None:
            drawn.append(work)
        slices = gather(head, drawn, max_texts=max_texts, max_tokens=max_tokens)
        for piece in slices:
            company.texts -= piece.end - piece.begin
            company.tokens -= sum(piece.work.text_tokens[piece.begin : piece.end])
        for work in drawn:
            if work.untaken:
                company.heap.push(work)
        self._close(head.parameters, company)
        return slices

    def _close(self, parameters: bytes | None, company: Company[PlaceT]) -> None:
        first = company.heap.peek()
        if first is not None:
            company.opened_at = first.arrived_at
        elif parameters is not None:
            del self._found[parameters]

    def __len__(self) -> int:
        """How many different parameters wait."""
        return len(self._found)

    def rebuild(self) -> None:
        """Ranks have changed."""
        for company in self._found.values():
            company.heap.rebuild()
