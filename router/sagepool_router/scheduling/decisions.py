"""What was decided and why: headers of answers, and the last decisions for people."""

from collections import defaultdict, deque
from heapq import nsmallest
from typing import Final, Generic, NamedTuple

import msgspec

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


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One placement."""

    at: float
    """Clock time."""
    request_id: bytes
    kind: Role
    model: str
    place: str
    policy: str
    """For example hybrid/adaptive/fifo: who decided for whom."""
    reason: str
    priority: int
    waited_s: float
    """From its arrival to this placement; of a retry, the attempts before it included."""
    texts: int
    """Texts in the call; 0 for llm work."""
    callers: int
    """Requests in the call."""
    options: tuple[Option, ...] = ()
    """The chosen one, then the best others that had room, sixteen at most; empty when they were
    not listed."""
    bound: int | None = None
    """By affinity: what the chosen one had to have less than in flight."""


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
        now, work, place = call.placed_at, call.work, call.place
        policy, reason = call.policy, call.reason
        self.counts[policy, reason] += 1
        options: tuple[Option, ...] = ()
        bound = None
        if now >= self._next_detailed_at:
            members = len(call.lane.placement.members)
            self._next_detailed_at = now + max(_DETAILED_EVERY_S, _A_CANDIDATE_S * members)
            used = next(p for p in SIMPLE.values() if policy.endswith(p.name))
            rule = used.placement(work.priority)
            comparison = call.lane.placement.comparison(work, rule, reason, place)
            options, bound = _list_best(comparison, place), comparison.bound
        self.kept.append(
            Decision(
                now,
                request_id,
                work.kind,
                work.model,
                place.name,
                policy,
                reason,
                work.priority,
                now - work.arrived_at,
                call.texts,
                len(call.slices) or 1,
                options,
                bound,
            )
        )


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
