"""What was decided and why: headers of answers, and the last decisions for people."""

from collections import defaultdict, deque
from heapq import nsmallest
from typing import Final, Generic, NamedTuple

from sagepool_crds.pool import Role
from sagepool_router.scheduling.calls import Call
from sagepool_router.scheduling.instance import InstanceT
from sagepool_router.scheduling.placement import Comparison
from sagepool_router.scheduling.policies import SIMPLE

KEPT: Final = 1000
_DETAILED_EVERY_S: Final = 0.02
"""Candidates are listed for at most fifty decisions a second: a list costs as much as a choice."""
_A_CANDIDATE_S: Final = 0.0002
"""And less often among more than a hundred, all of which are looked at."""
_LISTED: Final = 16


class Option(NamedTuple):
    """An instance that could have been chosen, as it was then."""

    name: str
    in_flight: int
    capacity: int
    latency_s: float
    score: float
    """By what it was compared with the others; the lower the better.

    By reason: `lowest_latency`: expected latency, in eighths of an octave above 1 ms, and 1 for
    each call in flight. `cheapest`: price per token. `fastest_in_budget`: latency in seconds.
    `affinity`: in flight. Else what is in flight, and 4 for each request without a first byte.
    """


class Decision:
    """One placement.

    Args:
        call: what was placed; it may be placed again later, so nothing of it is kept.
        request_id: of the request it was placed for.
    """

    options: tuple[Option, ...] = ()
    """The chosen one, then the best others that had room, sixteen at most; empty when they were
    not listed."""
    bound: int | None = None
    """By affinity: what the chosen one had to have less than in flight."""

    def __init__(self, call: Call[InstanceT], request_id: bytes) -> None:
        work = call.work
        self.at = call.placed_at
        """Clock time."""
        self.request_id = request_id
        self.kind: Role = work.kind
        self.model = work.model
        self.place: str = call.place.name
        self.policy = call.policy
        """For example hybrid/adaptive/fifo: who decided for whom."""
        self.reason = call.reason
        self.priority = work.priority
        self.waited_s = call.placed_at - work.arrived_at
        """From its arrival to this placement; of a retry, the attempts before it included."""
        self.texts = call.texts
        """Texts in the call; 0 for llm work."""
        self.callers = len(call.slices) or 1
        """Requests in the call."""


class DecisionLog(Generic[InstanceT]):
    """The last decisions of a process."""

    __slots__ = ("_next_detailed_at", "counts", "kept")

    def __init__(self) -> None:
        self.kept: deque[Decision] = deque(maxlen=KEPT)
        self.counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        """Decisions by policy and reason."""
        self._next_detailed_at = float("-inf")

    def add(self, call: Call[InstanceT], request_id: bytes) -> None:
        """A call was placed, for this request among others; its place is charged already."""
        self.counts[call.policy, call.reason] += 1
        decision = Decision(call, request_id)
        if call.placed_at >= self._next_detailed_at:
            self._add_options(decision, call)
        self.kept.append(decision)

    def _add_options(self, decision: Decision, call: Call[InstanceT]) -> None:
        work, place, placement = call.work, call.place, call.lane.placement
        pause_s = max(_DETAILED_EVERY_S, _A_CANDIDATE_S * len(placement.members))
        self._next_detailed_at = call.placed_at + pause_s
        used = next(p for p in SIMPLE.values() if call.policy.endswith(p.name))
        comparison = placement.comparison(work, used.placement(work.priority), call.reason, place)
        decision.options, decision.bound = _list_best(comparison, place), comparison.bound


def _list_best(comparison: Comparison[InstanceT], place: InstanceT) -> tuple[Option, ...]:
    """The place as it was before its call, and the best of the others that have room."""
    score = comparison.score
    before = score(place) - comparison.call
    options = [Option(place.name, place.in_flight - 1, place.capacity, place.latency_s, before)]
    for group in comparison.groups:
        left = _LISTED - len(options)
        if not left:
            break
        free = [seat for seat in group if seat.in_flight < seat.capacity]
        # one more than there is room for: the place may be among them
        best = [seat.member for seat in nsmallest(left + 1, free, key=comparison.order)]
        others = [member for member in best if member is not place]
        options += [
            Option(m.name, m.in_flight, m.capacity, m.latency_s, score(m)) for m in others[:left]
        ]
    return tuple(options)
