"""A place for every key among changing members: a hash ring, and the rule that keeps it even.

Routers share nothing and still agree, because places follow from names and keys alone. The ring
is Karger et al., "Consistent Hashing and Random Trees" (STOC 1997); the rule is Mirrokni, Thorup
and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018).
"""

from collections.abc import Callable, Sequence
from hashlib import shake_128
from itertools import accumulate, chain, repeat
from math import ceil, inf
from operator import attrgetter
from struct import unpack
from typing import Final, Generic, Protocol, TypeVar

from sagepool_router.picker import Member

LOAD_FACTOR: Final = 1.25
"""How far above the mean a member may be loaded for the sake of a key."""
MAX_STEPS: Final = 16
"""How many points clockwise from a key are looked at."""
REMEMBERED: Final = 4096
"""Keys in one generation."""

_POINTS_EACH: Final = 32
"""A member's points on a small ring; more make placement no better once loads are bounded."""
_MAX_POINTS: Final = 8192
"""All points of a large ring: what is hashed and sorted in a few milliseconds."""
_PLACES: Final = 1 << 32
_SECTOR_BITS: Final = 20
"""A sector is 2^20 places: on a large ring it has two points."""

_WINDOW: Final = 128
"""Requests of each member after which half of all that was counted is forgotten."""
_BEFORE: Final = 32
"""Requests that each member begins with, lest the first ones count for too much."""
_CARRIED: Final = 1.1
"""Of the mean, what a member is given by key: the rest up to the bound is for chance."""
_FREQUENT: Final = 0.1
"""Of a member's share of requests: a key that makes more of it has more than one place."""

AnyT = TypeVar("AnyT")
MemberT = TypeVar("MemberT", bound=Member)
MemberT_contra = TypeVar("MemberT_contra", bound=Member, contravariant=True)
_CARRIED_BY: Final = attrgetter("carried")


class Unwanted(Protocol[MemberT_contra]):
    """The members that a key must not go to: a collection of them, or a rule."""

    def __contains__(self, member: MemberT_contra, /) -> bool:
        """Whether it is one of them."""


class HashRing(Generic[AnyT]):
    """Members on a ring, each at many points; immutable, made anew for another set.

    A member that joins takes keys from all others and moves none between them. Beyond 256
    members that is not quite so: the more there are, the fewer points each has, and the join
    that takes one from each moves their keys besides, one in 32 at first, one in 8 at 1,024.
    """

    __slots__ = ("owners", "points", "sectors")

    def __init__(self, members: Sequence[AnyT], name: Callable[[AnyT], str]) -> None:
        """Place the members by their names, which must differ; their order plays no part."""
        each = max(1, min(_POINTS_EACH, _MAX_POINTS // max(1, len(members))))
        # where two members meet in a point, the later entry stays: in every router the same
        ordered = sorted(members, key=name)
        digests = b"".join([shake_128(name(m).encode()).digest(4 * each) for m in ordered])
        owners = chain.from_iterable(map(repeat, ordered, repeat(each)))
        owner = dict(zip(unpack(f"<{len(digests) // 4}I", digests), owners, strict=True))
        points = sorted(owner)
        counts = [0] * (_PLACES >> _SECTOR_BITS)
        for point in points:
            counts[point >> _SECTOR_BITS] += 1
        self.sectors = list(accumulate(counts, initial=0))
        """The first point at or after the beginning of each sector."""
        self.points = [*points, _PLACES]
        """The points clockwise, and one behind all places."""
        self.owners: list[AnyT] = [owner[point] for point in points]
        """The member at each point, and the first ones again: no walk has to wrap around."""
        self.owners += self.owners[:MAX_STEPS]

    def walk(self, key: int) -> Sequence[AnyT]:
        """The owners of the first points clockwise from a key, nearest first, some repeatedly.

        Keys are hashes already: of a key, the low 32 bits are its place.
        """
        place = key & 0xFFFFFFFF
        points = self.points
        index = self.sectors[place >> _SECTOR_BITS]
        while points[index] < place:
            index += 1
        return self.owners[index : index + MAX_STEPS]


class _Place(Generic[MemberT]):
    """A member on the ring, and what it has been given of late."""

    __slots__ = ("carried", "member")

    def __init__(self, member: MemberT) -> None:
        self.member = member
        self.carried = float(_BEFORE)
        """Requests that came by key; half of it is forgotten with each window."""


class _Habit(Generic[MemberT]):
    """Where a key goes."""

    __slots__ = ("places", "requests", "window")

    def __init__(self, window: int) -> None:
        self.places: tuple[_Place[MemberT], ...] = ()
        """Those that know it, the longest first."""
        self.requests = 0
        """With it, of late; forgotten as what places have carried."""
        self.window = window
        """When that was seen to last."""


class BoundedLoads(Generic[MemberT]):
    """Chooses by key, and passes over who has more than its share, now or of late.

    A member may have up to `factor` times the mean in flight, rounded up, and may be given up to
    `_CARRIED` times the mean of what all are given by key. The first holds from moment to moment
    and lets who is at it all the time carry more, by the rounding; the second keeps the sums of a
    run even. It gives way, and the first does not, where it would leave a key without a place: the
    members that are within it are slow then, or have no room. While members have less than one
    request in flight on average there is nothing to even out, and it does not hold either.

    Which key gives way matters as much as that one does. A key goes to one place, the first on
    its walk that was within both. One that is asked for so often that it alone makes a good part
    of a member's share has several, of which the one with the least in flight is taken: what is
    frequent fills the valleys and is warm in all of them, what is rare keeps its only place (Nasir
    et al., "When Two Choices Are not Enough", ICDE 2016). Only what a place has carried moves a
    key, and for good; what is in flight there turns single requests away, each time to the next on
    the walk. So a key is cold where it comes anew, and that is seldom.

    It is cold once in each of its places, and who is asked for more often than one member's share
    allows must have several. Where only one member has room, room decides and warmth does not.

    Routers that share nothing agree as far as they see the same: places are the first on the walk,
    and who remembers nothing finds them there. Keys are remembered in two generations, as
    `Affinity` does.

    The bounds are the same for all members and not weighted by capacity. A capacity is a limit
    that follows load: shares that followed it in turn would let the loaded grow and the others
    never show what they can do. Least-loaded choice, which takes what finds no place here,
    counts alike. What little room a member has, its capacity protects besides.
    """

    __slots__ = (
        "_carried",
        "_factor",
        "_left",
        "_older",
        "_places",
        "_recent",
        "_ring",
        "_size",
        "_window",
    )

    def __init__(
        self,
        members: Sequence[MemberT],
        name: Callable[[MemberT], str],
        factor: float = LOAD_FACTOR,
        size: int = REMEMBERED,
    ) -> None:
        """Build the ring of the members; see `HashRing`. `size`: keys in one generation."""
        self._places = [_Place(member) for member in members]
        self._ring = HashRing(self._places, lambda place: name(place.member))
        self._factor = factor
        self._size = size
        self._recent: dict[int, _Habit[MemberT]] = {}
        self._older: dict[int, _Habit[MemberT]] = {}
        self._window = 0
        self._carried = float(_BEFORE * len(self._places))
        """By all places."""
        self._left = _WINDOW * len(self._places)
        """Requests until the window ends."""

    def __len__(self) -> int:
        """Keys remembered: at most two generations of them."""
        return len(self._recent) + len(self._older)

    def bound(self, total: int, serving: int) -> int:
        """What a member must have less than in flight to be given one more by key; see `pick`."""
        return ceil(self._factor * (total + 1) / serving)

    def pick(
        self, key: int, total: int, serving: int, excluded: Unwanted[MemberT] = ()
    ) -> MemberT | None:
        """The place of a key among the members that have room and are within the bound.

        None means that the key has no place near: then the least loaded member is the right one.
        It is within the bound as well while no member's own capacity keeps it below its share.

        Args:
            key: what belongs together.
            total: requests in flight on all members.
            serving: how many members have a capacity above 0. Counting the ejected would lower
                the mean, and the bound with it, below what the others have to carry.
            excluded: members that are not wanted.
        """
        if not serving:
            return None
        share = _CARRIED * self._carried / serving if total >= serving else inf
        habit = self._recent.get(key) or self._recall(key)
        if habit.window != self._window:
            self._renew(habit, share)
        habit.requests += 1
        bound = least = self.bound(total, serving)
        places = habit.places
        if (count := len(places)) > 2:
            # two of them are as good as all (Mitzenmacher 2001); which ones goes around
            turn = self._left % count
            places = (places[turn - 1], places[turn])
        chosen = None
        for place in places:
            member = place.member
            load = member.in_flight
            if (
                load < least
                and place.carried < share
                and load < member.capacity
                and member not in excluded
            ):
                chosen, least = place, load
        if chosen is None:
            chosen = self._next(habit, key, bound, share, excluded)
            if chosen is None:
                return None
        chosen.carried += 1
        self._carried += 1
        self._left -= 1
        if self._left <= 0:
            self._end_window()
        return chosen.member

    def _next(
        self,
        habit: _Habit[MemberT],
        key: int,
        bound: int,
        share: float,
        excluded: Unwanted[MemberT],
    ) -> _Place[MemberT] | None:
        """The first on the walk that is within both bounds, else one that is within the first."""
        known = habit.places
        spare = None
        for place in self._ring.walk(key):
            member = place.member
            load = member.in_flight
            if load < bound and load < member.capacity and member not in excluded:
                if place.carried < share:
                    if not known:
                        habit.places = (place,)
                    elif place not in known:
                        self._settle(habit, place, share)
                    return place
                if spare is None or place in known:
                    spare = place
        return spare

    def _settle(self, habit: _Habit[MemberT], place: _Place[MemberT], share: float) -> None:
        """The key stays where it came to, if it may have one more or one has had its share."""
        known = habit.places
        if len(known) < self._width(habit, share):
            habit.places = (*known, place)
            return
        fullest = max(known, key=_CARRIED_BY)
        if fullest.carried >= share:
            habit.places = (*[other for other in known if other is not fullest], place)

    def _width(self, habit: _Habit[MemberT], share: float) -> int:
        """How many places a key has: more than one if it is a good part of a member's share."""
        shares = _CARRIED * habit.requests / share
        return 1 if shares < _FREQUENT else 1 + ceil(shares)

    def _recall(self, key: int) -> _Habit[MemberT]:
        """What is known of a key that this generation has not met yet."""
        if len(self._recent) >= self._size:
            self._older, self._recent = self._recent, {}
        habit = self._older.pop(key, None)
        if habit is None:
            habit = _Habit(self._window)
        self._recent[key] = habit
        return habit

    def _renew(self, habit: _Habit[MemberT], share: float) -> None:
        """A new window: forget what was long ago, and the places that are not needed any more."""
        habit.requests >>= self._window - habit.window
        habit.window = self._window
        habit.places = habit.places[: self._width(habit, share)]

    def _end_window(self) -> None:
        self._window += 1
        for place in self._places:
            place.carried /= 2
        self._carried /= 2
        self._left = _WINDOW * len(self._places)
