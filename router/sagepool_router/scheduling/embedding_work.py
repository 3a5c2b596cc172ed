"""Embedding requests as work that can be merged and split, and what travels together."""

from collections.abc import Iterable
from typing import Generic

from sagepool_router.scheduling.work import PlaceT, Work


class EmbeddingWork(Work[PlaceT]):
    """A request for embeddings: whole, until it is cut into its texts."""

    parameters: bytes | None = None
    """Requests with the same can be merged; None: it travels alone and whole."""
    text_tokens: tuple[int, ...] = ()
    """Estimated tokens of each text; empty while it has not been cut."""
    taken: int = 0
    """Texts up to here have left for an engine, but for those that were returned."""
    returned: tuple[tuple[int, int], ...] = ()
    """Texts, from and to, that have come back while later ones are out; they go first."""

    def cut(self, parameters: bytes | None, text_tokens: tuple[int, ...]) -> None:
        """Its texts are known."""
        self.parameters = parameters if text_tokens else None
        self.text_tokens = text_tokens
        self.texts = len(text_tokens) or self.texts

    @property
    def untaken(self) -> int:
        """How many texts have not left for an engine."""
        return self.texts - self.taken + sum([end - begin for begin, end in self.returned])

    @property
    def untaken_tokens(self) -> int:
        """Estimated tokens of the texts that have not left for an engine."""
        tokens = sum(self.text_tokens[self.taken :])
        return tokens + sum([sum(self.text_tokens[b:e]) for b, e in self.returned])

    @property
    def next_texts(self) -> tuple[int, int]:
        """From and to: what can leave next in one piece."""
        return self.returned[0] if self.returned else (self.taken, self.texts)

    def take(self, end: int) -> None:
        """The next texts leave, up to `end`."""
        if not self.returned:
            self.taken = end
            return
        last = self.returned[0][1]
        self.returned = (((end, last),) if end < last else ()) + self.returned[1:]

    def take_all(self) -> "list[Slice[PlaceT]]":
        """All that is left leaves."""
        slices = [Slice(self, begin, end) for begin, end in self.returned]
        if self.taken < self.texts or not slices:
            slices.append(Slice(self, self.taken, self.texts))
        self.taken, self.returned = self.texts, ()
        return slices

    def give_back(self, begin: int, end: int) -> None:
        """Texts that had left have come back: they are to leave again."""
        ranges = sorted((*self.returned, (begin, end)))
        while ranges and ranges[-1][1] == self.taken:
            self.taken = ranges.pop()[0]
        self.returned = tuple(ranges)


class Slice(Generic[PlaceT]):
    """Consecutive texts of one request in a batch; `begin == end` never."""

    __slots__ = ("begin", "end", "work")

    def __init__(self, work: EmbeddingWork[PlaceT], begin: int, end: int) -> None:
        self.work = work
        self.begin = begin
        self.end = end

    @property
    def is_whole(self) -> bool:
        """It is all of its request."""
        return not self.begin and self.end == self.work.texts


def gather(
    head: EmbeddingWork[PlaceT],
    company: Iterable[EmbeddingWork[PlaceT]],
    *,
    max_texts: int,
    max_tokens: int,
) -> list[Slice[PlaceT]]:
    """Texts that travel in one call, in the order of their requests; `head` is in it.

    A request that would fit into a batch of its own is not torn to fill this one, but lets later
    ones have what it leaves free: it is first in the next. A larger one is cut wherever the batch
    is full. A single text above the limit of tokens travels alone. What is gathered counts as
    taken.

    Args:
        head: the request that is due.
        company: requests that may travel with it, in their order.
        max_texts: of a batch.
        max_tokens: of a batch, estimated.
    """
    if head.parameters is None:
        return head.take_all()
    slices: list[Slice[PlaceT]] = []
    texts = tokens = 0
    for work in (head, *(other for other in company if other is not head)):
        begin, last = work.next_texts
        end, after = _fill(work, max_texts - texts, max_tokens - tokens, is_empty=not slices)
        if end < last and slices and _is_small(work, max_texts, max_tokens):
            continue
        if end > begin:
            slices.append(Slice(work, begin, end))
            work.take(end)
            texts += end - begin
            tokens += after
        if texts >= max_texts:
            break
    return slices


def _fill(
    work: EmbeddingWork[PlaceT], room: int, tokens_room: int, *, is_empty: bool
) -> tuple[int, int]:
    """Where the request's texts stop to fit, and the tokens of those that do."""
    begin, last = work.next_texts
    end = begin
    tokens = 0
    while end < last and end - begin < room:
        more = tokens + work.text_tokens[end]
        if more > tokens_room and not (is_empty and end == begin):
            break
        tokens = more
        end += 1
    return end, tokens


def _is_small(work: EmbeddingWork[PlaceT], max_texts: int, max_tokens: int) -> bool:
    """What is left of it would fit into a batch of its own."""
    return work.untaken <= max_texts and work.untaken_tokens <= max_tokens
