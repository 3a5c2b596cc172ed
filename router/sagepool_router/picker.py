"""Choice of the lowest in constant time: members sorted into buckets by a small whole number.

By default that is their load: join-the-shortest-queue on exact counts, random among equals. A
choice and the charge and release around it cost the same for ten members and for a thousand.
"""

from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Any, Final, Generic, Protocol, TypeVar

_FULL: Final = -1
_IN_FLIGHT: Final[Callable[[Any], int]] = attrgetter("in_flight")


class Member(Protocol):
    """What can be chosen."""

    in_flight: int
    """Requests charged to it."""
    capacity: int
    """How many may be charged to it now; 0 leaves it out."""


MemberT = TypeVar("MemberT", bound=Member)


class Seat(Generic[MemberT]):
    """A member's place in one index; `LeastLoaded.update` keeps it."""

    __slots__ = ("capacity", "in_flight", "index", "load", "member", "position")

    def __init__(self, index: "LeastLoaded[MemberT]", member: MemberT) -> None:
        self.index = index
        self.member = member
        self.load = _FULL
        """The bucket it is in; none while the member has no room."""
        self.position = 0
        """Its place in the bucket."""
        self.in_flight = 0
        """What of the index's total is the member's."""
        self.capacity = 0
        """What of the index's room is the member's."""


class LeastLoaded(Generic[MemberT]):
    """An index over members; `update` has to be told of every change of load or capacity.

    Args:
        members: those to choose from.
        random: uniform in [0, 1): chooses among equals.
        score: a member's bucket, 0 and up; the lowest is chosen.
    """

    __slots__ = (
        "_buckets",
        "_lowest",
        "_random",
        "_score",
        "open",
        "room",
        "seats",
        "serving",
        "total",
    )

    def __init__(
        self,
        members: Sequence[MemberT],
        random: Callable[[], float],
        score: Callable[[MemberT], int] = _IN_FLIGHT,
    ) -> None:
        self._random = random
        self._score = score
        self.total = 0
        """Calls in flight on all members."""
        self.room = 0
        """Capacity of all members."""
        self.serving = 0
        """Members with a capacity."""
        self.open = 0
        """Members with room."""
        self._buckets: list[list[Seat[MemberT]]] = []
        self._lowest = 0
        """No bucket below this one has a member."""
        self.seats: tuple[Seat[MemberT], ...] = tuple(Seat(self, member) for member in members)
        """One for each member, in their order."""
        for seat in self.seats:
            self.update(seat)

    def pick(self, excluded: Collection[MemberT] = ()) -> MemberT | None:
        """A member with the lowest load that has room and is not excluded; None without one."""
        if not self.open:
            return None
        buckets = self._buckets
        lowest = self._lowest
        while not (bucket := buckets[lowest]):
            self._lowest = lowest = lowest + 1
        size = len(bucket)
        choice = bucket[int(self._random() * size) if size > 1 else 0].member
        if excluded and choice in excluded:
            return self._pick_other(excluded)
        return choice

    def update(self, seat: Seat[MemberT]) -> None:
        """Move a member to the bucket of its load, or out of all while it has no room."""
        member = seat.member
        old = seat.load
        in_flight = member.in_flight
        capacity = member.capacity
        self.total += in_flight - seat.in_flight
        seat.in_flight = in_flight
        if capacity != seat.capacity:
            self.room += capacity - seat.capacity
            self.serving += (capacity > 0) - (seat.capacity > 0)
            seat.capacity = capacity
        new = _FULL if in_flight >= capacity else self._score(member)
        if new == old:
            return
        seat.load = new
        buckets = self._buckets
        if old != _FULL:  # the last of the bucket takes the free place
            bucket = buckets[old]
            last = bucket.pop()
            if last is not seat:
                bucket[seat.position] = last
                last.position = seat.position
        else:
            self.open += 1
        if new == _FULL:
            self.open -= 1
            return
        try:
            bucket = buckets[new]
        except IndexError:  # only so often as the highest load rises
            buckets += [[] for _ in range(len(buckets), new + 1)]
            bucket = buckets[new]
        seat.position = len(bucket)
        bucket.append(seat)
        if new < self._lowest:
            self._lowest = new

    def _pick_other(self, excluded: Collection[MemberT]) -> MemberT | None:
        for bucket in self._buckets[self._lowest :]:
            options = [seat.member for seat in bucket if seat.member not in excluded]
            if options:
                return options[int(self._random() * len(options))]
        return None
