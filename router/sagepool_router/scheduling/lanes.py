"""All queues of a pool by model and role; they outlive tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from operator import attrgetter
from typing import Generic, TypeAlias

from sagepool_crds.pool import Role
from sagepool_router.scheduling.fair_share import FairShare
from sagepool_router.scheduling.instance import InstanceT
from sagepool_router.scheduling.lane import Lane
from sagepool_router.scheduling.placement import Placement
from sagepool_router.scheduling.settings import SchedulingSettings
from sagepool_router.scheduling.work import Work

LaneKey: TypeAlias = tuple[str, Role]
"""Model and role."""


class Lanes(dict[LaneKey, Lane[InstanceT]], Generic[InstanceT]):
    """Those of the table, and those of earlier ones in which something still waits.

    Args:
        random: uniform in [0, 1): chooses among equally good instances.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        super().__init__()
        self._random = random
        self._settings: SchedulingSettings | None = None
        self.shares: list[FairShare] = []
        """One for each set of instances."""
        self._placements: dict[
            tuple[InstanceT, ...], tuple[tuple[object, ...], Placement[InstanceT]]
        ] = {}
        """By their members; and what they are made of."""
        self._listed: frozenset[LaneKey] = frozenset()
        """The lanes of the table; others are left over from an earlier one."""

    def swap(
        self, settings: SchedulingSettings, members: Mapping[LaneKey, Sequence[InstanceT]]
    ) -> dict[LaneKey, Placement[InstanceT]]:
        """Follow a new table; what waits goes on waiting, in its new order.

        Returns:
            the placements; models of the same instances share theirs.
        """
        is_changed, self._settings = settings != self._settings, settings
        groups: dict[tuple[InstanceT, ...], list[Lane[InstanceT]]] = {}
        for key, own in members.items():
            lane = self.get(key)
            if lane is None:
                lane = self[key] = Lane(*key, settings)
            elif is_changed:
                lane.configure(settings)
            groups.setdefault(tuple(own), []).append(lane)
        self._placements = {group: self._place(group, settings) for group in groups}
        for group, lanes in groups.items():
            for lane in lanes:
                lane.placement = self._placements[group][1]
        self._share(groups.values())
        self._listed = frozenset(members)
        for key in self.keys() - self._listed:
            self[key].placement = Placement((), self._random, prefers_specialized=False)
            self.forget(self[key])
        return {key: self[key].placement for key in members}

    def _place(
        self, members: tuple[InstanceT, ...], settings: SchedulingSettings
    ) -> tuple[tuple[object, ...], Placement[InstanceT]]:
        """The placement of these, and what it is made of: as long as that stays, it does too, and
        knows where prefixes are."""
        preferred = settings.prefer_specialized_instances
        made_of = (preferred, *[(m.is_specialized, m.price_per_hour) for m in members])
        before = self._placements.get(members)
        if before is not None and before[0] == made_of:
            return before
        return made_of, Placement(members, self._random, prefers_specialized=preferred)

    def _share(self, groups: Iterable[list[Lane[InstanceT]]]) -> None:
        """Have models of the same instances share one virtual time, and no others."""
        self.shares = []
        for lanes in groups:
            free = [lane.shares for lane in lanes if lane.shares not in self.shares]
            longest = max(free or [lanes[0].shares], key=attrgetter("virtual"))
            shares = longest if free else longest.copy()
            self.shares.append(shares)
            for lane in lanes:
                lane.share(shares)

    def of_flow(self, flow: str) -> int:
        """How many requests of a flow wait, for whatever model."""
        return sum([shares.of_flow(flow) for shares in self.shares])

    def knows(self, lane: Lane[InstanceT]) -> bool:
        """Whether it is still the lane of its model."""
        return self.get((lane.model, lane.kind)) is lane

    def forget(self, lane: Lane[InstanceT]) -> None:
        """Drop a lane that the table does not list, once nothing waits in it."""
        key = (lane.model, lane.kind)
        if not lane.queue.count and key not in self._listed and self.knows(lane):
            del self[key]

    def drop_unlisted(self) -> list[Work[InstanceT]]:
        """Take out all that waits for models which the table does not list."""
        dropped: list[Work[InstanceT]] = []
        for key in self.keys() - self._listed:
            dropped += self.pop(key).drain()
        return dropped


def serve_in_turn(
    lanes: Sequence[Lane[InstanceT]], serve_one: Callable[[Lane[InstanceT]], bool]
) -> None:
    """Serve lanes for as long as they can be, the one that is due first before the others.

    Lanes of the same instances share a virtual time, so their ranks say who that is. Between others
    there is no such measure: there the arrival decides, with the patience that the policy gives.

    Args:
        lanes: with something that waits and instances with room.
        serve_one: places what is due in a lane; False if it has to wait.
    """
    groups: dict[FairShare, list[tuple[float, int, Lane[InstanceT]]]] = {}
    for number, lane in enumerate(lanes):
        groups.setdefault(lane.shares, []).append((lane.rank(), number, lane))
    for heap in groups.values():
        heapify(heap)
    while groups:
        shares = min(groups, key=lambda shares: groups[shares][0][2].due_at())
        heap = groups[shares]
        _, number, lane = heap[0]
        if not lane.placement.has_room:
            del groups[shares]  # nor has another model of the same instances
        elif serve_one(lane) and lane.queue.count:
            heapreplace(heap, (lane.rank(), number, lane))
        else:
            heappop(heap)
            if not heap:
                del groups[shares]
