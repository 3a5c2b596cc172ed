"""What waits, in the order in which it is due: one heap with ranks that never change by waiting.

A rank is the virtual time at which a request's flow is due for it, plus its patience: how long
its policy lets it stand back, in seconds turned into virtual time. The virtual time passes every
rank in the end, so nothing starves, and nothing has to be sorted anew while it waits.
"""

from bisect import insort
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from sagepool_router.scheduling.fair_share import FairShare
from sagepool_router.scheduling.work import PlaceT, Work

WorkT = TypeVar("WorkT", bound=Work[Any])

_MIN_GARBAGE: Final = 64
_SLOWER: Final = 0.7
_FASTER: Final = 1.4
_arrival: Final = attrgetter("arrived_at")


class RankedHeap(Generic[WorkT]):
    """Work that waits, the lowest rank first. What waits no longer is dropped in passing."""

    __slots__ = ("_heap", "count")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, WorkT]] = []
        self.count = 0
        """How many of it wait."""

    def push(self, work: WorkT) -> None:
        """Take in work that waits; its rank and its sequence are known."""
        heappush(self._heap, (work.rank, work.sequence, work))
        self.count += 1

    def peek(self) -> WorkT | None:
        """What is first."""
        heap = self._heap
        while heap:
            rank, sequence, work = heap[0]
            if work.state != "waiting" or work.sequence != sequence:
                heappop(heap)
            elif work.rank > rank:  # a part of it has left: what is left is due later
                heapreplace(heap, (work.rank, work.sequence, work))
            else:
                return work
        return None

    def pop(self) -> WorkT | None:
        """Take the first out, if there is one."""
        work = self.peek()
        if work is not None:
            heappop(self._heap)
            self.count -= 1
        return work

    def forget(self) -> None:
        """One of those in here does not wait any more."""
        self.count -= 1
        size = len(self._heap)
        if size > _MIN_GARBAGE and size > 2 * self.count:
            self.rebuild()

    def rebuild(self) -> None:
        """Sort anew: ranks have changed."""
        self._heap = [(w.rank, w.sequence, w) for w in self.waiting()]
        heapify(self._heap)

    def waiting(self) -> list[WorkT]:
        """All that wait, in no order."""
        return [w for _, s, w in self._heap if w.state == "waiting" and w.sequence == s]


class WaitingQueue(Generic[PlaceT]):
    """The requests that wait for one model."""

    __slots__ = (
        "_arrivals",
        "_fastest",
        "_heap",
        "_returns",
        "_sequence",
        "_slowest",
        "count",
        "deadlines",
        "priorities",
        "shares",
    )

    def __init__(self, shares: FairShare) -> None:
        self.shares = shares
        self.count = 0
        """How many wait."""
        self.priorities: dict[int, int] = {}
        """How many wait by priority."""
        self.deadlines = 0
        """How many of those that wait have a deadline."""
        self._heap: RankedHeap[Work[PlaceT]] = RankedHeap()
        self._arrivals: deque[Work[PlaceT]] = deque()
        """As they came, with some that do not wait any more."""
        self._sequence = 0
        self._returns = 0
        """Sequences of what has come back: below those of all that came for the first time."""
        self._fastest = 0.0
        """The highest speed of the virtual time that ranks were made at; 0 without any."""
        self._slowest = inf
        """The lowest."""

    def __len__(self) -> int:
        """How many wait."""
        return self.count

    @property
    def is_mistimed(self) -> bool:
        """The virtual time runs at another speed than ranks were made for: a second of patience
        in them is not a second any more."""
        speed = self.shares.speed
        return speed < _SLOWER * self._fastest or speed > _FASTER * self._slowest

    def move(self, shares: FairShare) -> None:
        """Go on in another virtual time; `rerank` has to follow."""
        later = shares.follow(self.shares)
        for work in self._heap.waiting():
            work.start_tag += later
            self.shares.leave(work.flow)
            shares.wait(work.flow, work.weight)
        self.shares = shares

    def push(self, work: Work[PlaceT], patience_s: float) -> None:
        """Let charged work wait; what comes in with the same rank goes after it."""
        self._sequence += 1
        work.sequence = self._sequence
        self._arrivals.append(work)
        self._let_wait(work, patience_s)

    def take_back(self, work: Work[PlaceT], patience_s: float) -> None:
        """Let work wait again that had left: it goes before what has the same rank.

        Another sequence: its old entry may still be in a heap, and must not count again.
        """
        self._returns -= 1
        work.sequence = self._returns
        insort(self._arrivals, work, key=_arrival)
        self._let_wait(work, patience_s)

    def _let_wait(self, work: Work[PlaceT], patience_s: float) -> None:
        if not self.count:
            self._fastest, self._slowest = 0.0, inf
        self.count += 1
        work.state = "waiting"
        work.rank = work.start_tag
        if patience_s:
            self._rank(work, work.start_tag, patience_s)
        self._heap.push(work)
        self.shares.wait(work.flow, work.weight)
        self.priorities[work.priority] = self.priorities.get(work.priority, 0) + 1
        if work.deadline_at != inf:
            self.deadlines += 1

    def peek(self) -> Work[PlaceT] | None:
        """What is due next."""
        return self._heap.peek()

    def oldest_at(self) -> float:
        """When the first of those that wait has arrived, whatever its rank; inf without one."""
        arrivals = self._arrivals
        while arrivals and arrivals[0].state != "waiting":
            arrivals.popleft()
        return arrivals[0].arrived_at if arrivals else inf

    def first(self, count: int) -> list[Work[PlaceT]]:
        """The next ones, in the order in which they are due."""
        heap = self._heap
        found = [work for _ in range(count) if (work := heap.pop()) is not None]
        for work in found:
            heap.push(work)
        return found

    def take(self, work: Work[PlaceT]) -> None:
        """It is placed or has left."""
        work.state = "placed"
        self.count -= 1
        self._heap.forget()
        if len(self._arrivals) > _MIN_GARBAGE + 2 * self.count:
            self._arrivals = deque([w for w in self._arrivals if w.state == "waiting"])
        self.shares.leave(work.flow)
        if self.priorities[work.priority] == 1:
            del self.priorities[work.priority]
        else:
            self.priorities[work.priority] -= 1
        if work.deadline_at != inf:
            self.deadlines -= 1

    def rerank(self, patience_s: Callable[[Work[PlaceT]], float]) -> None:
        """Order what waits anew, by the patience that it had when it came."""
        self._fastest, self._slowest = 0.0, inf
        for work in self._heap.waiting():
            self._rank(work, work.start_tag, patience_s(work))
        self._heap.rebuild()

    def put_back(self, patience_s: float) -> None:
        """What is due next gets another patience, from now on."""
        work = self._heap.pop()
        if work is not None:
            self._rank(work, max(work.start_tag, self.shares.virtual), patience_s)
            self._heap.push(work)

    def waiting(self) -> list[Work[PlaceT]]:
        """All that wait, in the order in which they are due."""
        return sorted(self._heap.waiting())

    def _rank(self, work: Work[PlaceT], tag: float, patience_s: float) -> None:
        speed = self.shares.speed
        work.rank = tag + patience_s * speed
        if patience_s:
            if speed > self._fastest:
                self._fastest = speed
            if speed < self._slowest:
                self._slowest = speed
