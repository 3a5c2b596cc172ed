"""Where work goes: the indexes over one set of instances, and the rules that choose by them.

A choice costs the same for ten instances and for a thousand: what changes with load is kept in
buckets, what changes seldom is computed when the set changes or on the sweep.
"""

from collections.abc import Callable, Collection, Sequence
from math import inf, log2
from operator import attrgetter
from typing import Final, Generic, NamedTuple

from sagepool_router.picker import LeastLoaded, Seat
from sagepool_router.scheduling.instance import Instance, InstanceT
from sagepool_router.scheduling.policies import PlacementRule
from sagepool_router.scheduling.ring import BoundedLoads, Unwanted
from sagepool_router.scheduling.work import Work

_STEPS_AN_OCTAVE: Final = 8
_MOST_CLASSES: Final = 192
_UNKNOWN_TOKENS_PER_S: Final = 1000.0
_UNREAD: Final = 4
"""What a request without its first byte weighs besides (docs/scheduling-simulation.md)."""
_IN_FLIGHT: Final = attrgetter("in_flight")
_LATENCY_S: Final = attrgetter("latency_s")
_LOAD: Final = attrgetter("load")


def latency_class(seconds: float) -> int:
    """Latencies that differ by less than a tenth are equal."""
    if seconds <= 0:
        return 0
    return min(_MOST_CLASSES, max(0, round(_STEPS_AN_OCTAVE * log2(1 + 1000 * seconds))))


def _pressure(member: Instance) -> int:
    """What is in flight, and what is to be read before anything is written counts more.

    Time to first token depends on the prompts that wait to be read, hardly on the answers that
    are being written beside them.
    """
    return member.in_flight + _UNREAD * member.unanswered


def _expected_latency(member: Instance) -> int:
    """What it has been of late, and a step more for each call that is in flight already.

    The measured figure alone comes late: until it moved, all would go to one instance.
    """
    return member.latency_class + member.in_flight


class Choice(Generic[InstanceT]):
    """A place and why it is the one."""

    __slots__ = ("place", "reason")

    def __init__(self, place: InstanceT, reason: str) -> None:
        self.place = place
        self.reason = reason


class Comparison(NamedTuple, Generic[InstanceT]):
    """By what a choice compared its candidates, for people."""

    groups: Sequence[Sequence[Seat[InstanceT]]]
    """Who has room in an earlier one goes before all of the later ones, whatever the scores."""
    order: Callable[[Seat[InstanceT]], float]
    """The lowest is the best of its group."""
    score: Callable[[InstanceT], float]
    call: float
    """What its own call has added to the score of the chosen one."""
    bound: int | None = None
    """By affinity: what it had to have less than in flight."""


class _Unfit(Generic[InstanceT]):
    """Whom the ring passes over: who is excluded, and who would contradict the rule.

    Args:
        excluded: not wanted anyway.
        left_s: until the deadline.
        limit: an expected latency that is too high.
    """

    __slots__ = ("_excluded", "_left_s", "_limit")

    def __init__(self, excluded: Collection[InstanceT], left_s: float, limit: float = inf) -> None:
        self._excluded = excluded
        self._left_s = left_s
        self._limit = limit

    def __contains__(self, member: InstanceT, /) -> bool:
        """Whether it is passed over."""
        return (
            member.latency_s > self._left_s
            or member.latency_class + member.in_flight >= self._limit
            or member in self._excluded
        )


class _PriceClass(Generic[InstanceT]):
    """Instances of one price: those of a group, as a rule."""

    __slots__ = ("members", "per_token", "price_per_hour", "tiers")

    def __init__(
        self,
        price_per_hour: float,
        tiers: tuple[LeastLoaded[InstanceT], ...],
        members: tuple[InstanceT, ...],
    ) -> None:
        self.price_per_hour = price_per_hour
        self.tiers = tiers
        self.members = members
        self.per_token = 0.0

    def measure(self, unknown: float) -> None:
        known = [m.tokens_per_s for m in self.members if m.tokens_per_s > 0]
        speed = sum(known) / len(known) if known else unknown
        self.per_token = self.price_per_hour / 3600 / speed


class Placement(Generic[InstanceT]):
    """The choice among one set of instances.

    Args:
        members: the instances.
        random: uniform in [0, 1): chooses among equals.
        prefers_specialized: instances whose GPU serves this kind alone come first.
    """

    __slots__ = (
        "_latencies",
        "_loads",
        "_prefers_specialized",
        "_prices",
        "_random",
        "_tiers",
        "members",
        "prices_differ",
    )

    def __init__(
        self,
        members: Sequence[InstanceT],
        random: Callable[[], float],
        *,
        prefers_specialized: bool,
    ) -> None:
        self.members = tuple(members)
        self._prefers_specialized = prefers_specialized
        self._tiers: tuple[LeastLoaded[InstanceT], ...] = tuple(
            [LeastLoaded(group, random, _pressure) for group in self._split(self.members)]
        )
        """By pressure; an instance of a later one is chosen when the earlier one has no room."""
        self._random = random
        self._latencies: tuple[LeastLoaded[InstanceT], ...] = ()
        """As the tiers, by expected latency; made, as the next two, when first asked for."""
        self._prices: list[_PriceClass[InstanceT]] = []
        self._loads: dict[LeastLoaded[InstanceT], BoundedLoads[InstanceT]] = {}
        """What is placed by key among the members of an index: of the first tier, of a price."""
        self.prices_differ = len({m.price_per_hour for m in self.members}) > 1

    def seats(self) -> list[Seat[InstanceT]]:
        """Every member's places in the indexes: who changes a load or a capacity tells them."""
        by_price = [tier for price in self._prices for tier in price.tiers]
        indexes = (*self._tiers, *self._latencies, *by_price)
        return [seat for index in indexes for seat in index.seats]

    def _split(self, members: tuple[InstanceT, ...]) -> Sequence[tuple[InstanceT, ...]]:
        """Members by tier: those that are preferred, if that is a difference, and the others."""
        if not self._prefers_specialized:
            return (members,)
        special = tuple([m for m in members if m.is_specialized])
        shared = tuple([m for m in members if not m.is_specialized])
        return (special, shared) if special and shared else (members,)

    def _index(
        self,
        members: Sequence[InstanceT],
        score: Callable[[InstanceT], int] = _pressure,
    ) -> LeastLoaded[InstanceT]:
        """Another index, which the members tell of their loads from now on."""
        index = LeastLoaded(members, self._random, score)
        for seat in index.seats:
            seat.member.seats += (seat,)
        return index

    def _price_classes(self) -> "list[_PriceClass[InstanceT]]":
        if not self._prices:
            for price in {m.price_per_hour for m in self.members}:
                group = tuple(m for m in self.members if m.price_per_hour == price)
                tiers = tuple([self._index(tier) for tier in self._split(group)])
                self._prices.append(_PriceClass(price, tiers, group))
            self.measure()
        return self._prices

    @property
    def load(self) -> float:
        """Calls in flight over what the members take now, 0 to 1."""
        total = sum([tier.total for tier in self._tiers])
        room = sum([tier.room for tier in self._tiers])
        return min(1.0, total / room) if room else float(total > 0)

    @property
    def has_room(self) -> bool:
        """Whether any member can be chosen now."""
        return self._tiers[0].open > 0 or self._tiers[-1].open > 0

    def measure(self) -> None:
        """Take measured throughputs in: the cheapest by token may be another one now.

        What is not known counts as the fastest that is, so that it is tried.
        """
        if not self._prices:
            return
        known = [m.tokens_per_s for m in self.members if m.tokens_per_s > 0]
        unknown = max(known, default=_UNKNOWN_TOKENS_PER_S)
        for price in self._prices:
            price.measure(unknown)
        self._prices.sort(key=attrgetter("per_token"))

    def choose(
        self,
        work: Work[InstanceT],
        rule: PlacementRule,
        now: float,
        excluded: Collection[InstanceT] = (),
    ) -> Choice[InstanceT] | None:
        """The place for the work; None while none has room.

        What belongs together goes to one place, if the rule has nothing against that place.
        """
        if rule == "lowest_latency":
            return self._lowest_latency(work, now, excluded)
        if rule == "cheapest" and self.prices_differ:
            return self._cheapest(work, now, excluded)
        if work.affinity is not None:
            unwanted: Unwanted[InstanceT] = excluded
            if rule == "cheapest":
                unwanted = _Unfit(excluded, work.deadline_at - now)
            warm = self._place_by_key(self._tiers[0], work, unwanted)
            if warm is not None:
                return Choice(warm, "affinity")
        tiers = self._tiers
        for tier in tiers:
            place = tier.pick(excluded)
            if place is not None:
                return Choice(place, "least_loaded" if tier is tiers[-1] else "specialized")
        return None

    def idle(self) -> Choice[InstanceT] | None:
        """A member with nothing in flight, the specialised before the others."""
        for tier in self._tiers:
            place = tier.pick()
            if place is not None and not place.in_flight:
                return Choice(place, "idle")
        return None

    def comparison(
        self, work: Work[InstanceT], rule: PlacementRule, reason: str, place: InstanceT
    ) -> Comparison[InstanceT]:
        """How the members compare, by what a place was chosen by that is charged already.

        Args:
            work: what was placed.
            rule: the policy's for it.
            reason: of the choice; a retry's is the rule's.
            place: the chosen one.
        """
        if reason == "affinity":
            is_by_price = rule == "cheapest" and self.prices_differ
            index = self._price_tier(place) if is_by_price else self._tiers[0]
            loads = self._loads.get(index)
            bound = None
            if loads is not None and index.serving:
                bound = loads.bound(index.total - 1, index.serving)
            return Comparison([index.seats], _IN_FLIGHT, _IN_FLIGHT, 1, bound)
        if reason == "retry":
            reason = rule
        if reason == "lowest_latency":
            groups = [index.seats for index in self._latency_tiers()]
            return Comparison(groups, _LOAD, _expected_latency, 1)
        if reason == "fastest_in_budget":
            own = self._price_tier(place)
            tiers = [tier for price in self._affordable(work) for tier in price.tiers]
            # the least loaded stands for its tier
            rivals = [
                min([s for s in t.seats if s.in_flight < s.capacity], key=_LOAD)
                for t in tiers
                if t is not own and t.open
            ]
            return Comparison([rivals], attrgetter("member.latency_s"), _LATENCY_S, 0)
        if reason == "cheapest" and self.prices_differ:
            prices = self._price_classes()
            cost = {price.price_per_hour: price.per_token for price in prices}
            groups = [tier.seats for price in prices for tier in price.tiers]
            return Comparison(groups, _LOAD, lambda member: cost[member.price_per_hour], 0)
        call = 1 + _UNREAD * (work.kind == "llm")
        return Comparison([tier.seats for tier in self._tiers], _LOAD, _pressure, call)

    def _price_tier(self, place: InstanceT) -> LeastLoaded[InstanceT]:
        """Where a place is in the order of prices."""
        prices = self._price_classes()
        own = next(p for p in prices if p.price_per_hour == place.price_per_hour)
        return own.tiers[0 if place.is_specialized else -1]

    def _place_by_key(
        self, index: LeastLoaded[InstanceT], work: Work[InstanceT], unwanted: Unwanted[InstanceT]
    ) -> InstanceT | None:
        """Where the work's key has its place among the members of an index, if anywhere."""
        if work.affinity is None or work.budget != inf or index.open < 2:
            return None  # room decides, as it does for all that waits for a full pool
        loads = self._loads.get(index)
        if loads is None:
            members = [seat.member for seat in index.seats]
            loads = self._loads[index] = BoundedLoads(members, attrgetter("name"))
        return loads.pick(work.affinity, index.total, index.serving, unwanted)

    def _latency_tiers(self) -> tuple[LeastLoaded[InstanceT], ...]:
        if not self._latencies:
            groups = self._split(self.members)
            self._latencies = tuple([self._index(tier, _expected_latency) for tier in groups])
        return self._latencies

    def _lowest_latency(
        self,
        work: Work[InstanceT],
        now: float,
        excluded: Collection[InstanceT],
    ) -> Choice[InstanceT] | None:
        """The lowest expected latency; nobody is late for the sake of a tier or of a key."""
        left_s = work.deadline_at - now
        late: InstanceT | None = None
        for index in self._latencies or self._latency_tiers():
            place = index.pick(excluded)
            if place is None:
                continue
            if place.latency_s <= left_s:
                if work.affinity is not None:
                    limit = _expected_latency(place) + _STEPS_AN_OCTAVE
                    unfit = _Unfit(excluded, left_s, limit)
                    warm = self._place_by_key(self._tiers[0], work, unfit)
                    if warm is not None:
                        return Choice(warm, "affinity")
                return Choice(place, "lowest_latency")
            if late is None:
                late = place
        return self._chosen(late, "lowest_latency")

    def _cheapest(
        self,
        work: Work[InstanceT],
        now: float,
        excluded: Collection[InstanceT],
    ) -> Choice[InstanceT] | None:
        left_s = work.deadline_at - now
        for price in self._price_classes():
            if price.per_token * work.tokens > work.budget:
                break  # all that follow are dearer
            for index in price.tiers:
                place = index.pick(excluded)
                if place is None or place.latency_s > left_s:
                    continue
                if work.affinity is not None:
                    warm = self._place_by_key(index, work, _Unfit(excluded, left_s))
                    if warm is not None:
                        return Choice(warm, "affinity")
                return Choice(place, "cheapest")
        options = [t.pick(excluded) for price in self._affordable(work) for t in price.tiers]
        fastest = min([p for p in options if p is not None], key=_LATENCY_S, default=None)
        return self._chosen(fastest, "fastest_in_budget")

    def _affordable(self, work: Work[InstanceT]) -> list[_PriceClass[InstanceT]]:
        """The prices that are within the work's budget; the lowest if none is."""
        prices = self._price_classes()
        return [p for p in prices if p.per_token * work.tokens <= work.budget] or prices[:1]

    def _chosen(self, place: InstanceT | None, reason: str) -> Choice[InstanceT] | None:
        return Choice(place, reason) if place is not None else None
