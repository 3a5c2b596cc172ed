"""The live side of the routing table: one long-lived object per backend, one route per name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import Final

from sagepool_crds.pool import Role
from sagepool_engines.dialects import EngineLoad
from sagepool_router.backend import LiveBackend, Standing, State
from sagepool_router.cloud import Cause, Cloud, CloudKey
from sagepool_router.counters import Counters, ModelCounters
from sagepool_router.limits import Limits
from sagepool_router.picker import Seat
from sagepool_router.scheduling.lane import Lane
from sagepool_router.scheduling.scheduler import Scheduler
from sagepool_router.table import (
    EMPTY,
    Backend,
    BackendKey,
    CloudTarget,
    ModelRoute,
    RoutingTable,
)
from sagepool_router.upstream import CoarseClock

SETTLING_S: Final = 3.0
"""After the first backend: a router that asks the engines itself finds the others within this time.
They are no newcomers that have to be eased in, the router is."""


@dataclass(frozen=True)
class BackendLoad:
    """A backend's live figures, for the admin port and for metrics."""

    instance: str
    role: Role
    url: str
    state: State
    in_flight: int
    idle_connections: int
    limit: int
    """What it may have in flight at most."""
    capacity: int
    """What it may have in flight now."""
    latency_s: float
    tokens_per_s: float
    engine: EngineLoad | None
    """What it said of itself last."""


class LiveRoute:
    """A model that clients can ask for: its queue and its backends."""

    __slots__ = (
        "absence",
        "cause",
        "counters",
        "dimension",
        "hold_s",
        "is_expected",
        "is_suspended",
        "lane",
        "members",
        "model",
        "role",
        "standing",
        "vacant_since",
    )

    def __init__(
        self,
        route: ModelRoute,
        table: RoutingTable,
        members: tuple[LiveBackend, ...],
        lane: Lane[LiveBackend],
        dimension: int | None,
        counters: ModelCounters,
        standing: Standing,
        vacant_since: float,
    ) -> None:
        self.model = route.name
        self.role = route.role
        self.absence = route.absence
        self.is_suspended = table.suspended and table.source != "cloud"
        self.cause = _cause(route, table)
        """Why no instance of the pool is to answer; None: one is."""
        self.hold_s = route.hold_s
        self.is_expected = route.is_expected
        self.vacant_since = vacant_since
        """When its last backend left, by the clock of the sweep; minus infinity: it had none."""
        self.dimension = dimension
        """Length of its embeddings, of late; None: not known."""
        self.counters = counters
        self.members = members
        self.lane = lane
        self.standing = standing

    def last_resort(self, tried: tuple[LiveBackend, ...] = ()) -> LiveBackend | None:
        """A backend to try although none is healthy; None if one is, or all are being tried.

        While all have failed, trying one all the same is better than to refuse, and finds out
        when it is back; but each with one call at a time (a circuit breaker that is half open;
        Nygard, Release It!, 2007), first the one that has been left out for longest.
        """
        if self.standing.healthy:
            return None
        options = [
            member
            for member in self.members
            if not member.is_probed
            and member not in tried
            and member.in_flight < member.facts.limit
        ]
        return min(options, key=attrgetter("ejected_until"), default=None)


class Fleet:
    """Keeps the live state of every backend over swaps of the table.

    Args:
        limits: of the process.
        clock: the sweep's.
        counters: of the process.
        scheduler: gets the backends and their queues.
        cloud_key: of the provider.
    """

    def __init__(
        self,
        limits: Limits,
        clock: CoarseClock,
        counters: Counters,
        scheduler: Scheduler[LiveBackend],
        cloud_key: CloudKey | None = None,
    ) -> None:
        self._cloud_key = cloud_key or CloudKey(None)
        self.cloud: Cloud | None = None
        """The provider, where the pool has one."""
        self._limits = limits
        self._clock = clock
        self._counters = counters
        self._scheduler = scheduler
        self._backends: dict[BackendKey, LiveBackend] = {}
        self._settled_at = 0.0
        """From then on a backend that comes is new."""
        self._dimensions: dict[str, int] = {}
        """Lengths of embeddings by model, also of those that have no instance at present."""
        self._vacant_since: dict[str, float] = {}
        """When the last backend of a model that has none has left."""
        self.routes: dict[str, LiveRoute] = {}
        """By every name that clients may send."""
        self.table = EMPTY
        """The table in use."""

    @property
    def backends(self) -> tuple[LiveBackend, ...]:
        """Every backend of the table."""
        return tuple(self._backends.values())

    def swap(self, table: RoutingTable) -> None:
        """Use a new table from now on.

        Backends that are in both keep their load, connections and health; those that are gone
        finish what they have in flight. What waits goes on waiting. Nothing is done that takes
        longer than a few milliseconds for a thousand backends.
        """
        routes = {route.name: route for route in table.models.values()}
        facts = {b.key: b for route in routes.values() for b in route.backends}
        if not self._backends:
            self._settled_at = self._clock.now + SETTLING_S
        is_new = self._clock.now >= self._settled_at
        backends = {
            key: self._backends.get(key) or LiveBackend(b, self._limits, self._clock, is_new=is_new)
            for key, b in facts.items()
        }
        for key, backend in self._backends.items():
            if key not in backends:
                backend.retire()
        shared = _shared_devices(facts.values())
        for key, backend in backends.items():
            backend.describe(facts[key], is_specialized=facts[key].device not in shared)
        members = {
            route.name: tuple(dict.fromkeys(backends[b.key] for b in route.backends))
            for route in routes.values()
        }
        self._backends = backends
        for name, route in routes.items():
            if route.dimension is not None:
                self._dimensions[name] = route.dimension
        self._dimensions = {n: d for n, d in self._dimensions.items() if n in routes}
        self._note_vacancies(members)
        self._follow_cloud(table.cloud)
        self._seat(table, routes, members, shared)
        self.table = table
        self._scheduler.resume()

    def _seat(
        self,
        table: RoutingTable,
        routes: dict[str, ModelRoute],
        members: dict[str, tuple[LiveBackend, ...]],
        shared: Iterable[str],
    ) -> None:
        """Give every backend its places in the queues' indexes."""
        scheduler = self._scheduler
        gpus: dict[str, list[LiveBackend]] = {device: [] for device in shared}
        for backend in self._backends.values():
            if backend.facts.device in gpus:
                gpus[backend.facts.device].append(backend)
        placements = scheduler.swap(
            table.scheduling,
            {(name, route.role): members[name] for name, route in routes.items()},
            gpus,
        )
        seats: dict[LiveBackend, list[Seat[LiveBackend]]] = {b: [] for b in self._backends.values()}
        for placement in {id(p): p for p in placements.values()}.values():
            for seat in placement.seats():
                seats[seat.member].append(seat)
        standings = self._standings(members)
        of_backends: dict[LiveBackend, list[Standing]] = {b: [] for b in seats}
        for name, standing in standings.items():
            for member in members[name]:
                of_backends[member].append(standing)
        for backend, own in seats.items():
            backend.join(tuple(own), tuple(of_backends[backend]))
        self.routes = {
            name: LiveRoute(
                route,
                table,
                members[route.name],
                scheduler.lanes[route.name, route.role],
                self._dimensions.get(route.name),
                self._counters.of_model(route.name, route.role),
                standings[route.name],
                self._vacant_since.get(route.name, -inf),
            )
            for name, route in table.models.items()
        }

    def _note_vacancies(self, members: Mapping[str, tuple[LiveBackend, ...]]) -> None:
        had_some = {route.model for route in self.routes.values() if route.members}
        self._vacant_since = {
            name: self._clock.now if name in had_some else self._vacant_since[name]
            for name, own in members.items()
            if not own and (name in had_some or name in self._vacant_since)
        }

    def _standings(self, members: dict[str, tuple[LiveBackend, ...]]) -> dict[str, Standing]:
        """How each model's backends are now; what failed last is remembered."""
        return {
            name: Standing(
                sum([member.is_healthy for member in group]),
                self.routes[name].standing.last_failure if name in self.routes else "",
            )
            for name, group in members.items()
        }

    def _follow_cloud(self, target: CloudTarget | None) -> None:
        old = self.cloud
        if old is not None and old.target == target:
            return
        if old is not None:
            old.backend.retire()
        self.cloud = None
        if target is not None:
            self.cloud = Cloud(target, self._cloud_key, self._limits, self._clock)

    def sweep(self) -> None:
        """Age idle connections and ejections."""
        if self.cloud is not None:
            self.cloud.refresh()
            self.cloud.backend.sweep()
        for backend in self._backends.values():
            backend.sweep()

    def close(self) -> None:
        """Close all idle connections; those in use close when they become idle."""
        for backend in self._backends.values():
            backend.pool.close()
        if self.cloud is not None:
            self.cloud.backend.pool.close()

    def loads(self) -> tuple[BackendLoad, ...]:
        """The live figures of every backend of the table, and of the provider."""
        backends = [*self._backends.values()]
        if self.cloud is not None:
            backends.append(self.cloud.backend)
        return tuple(
            BackendLoad(
                instance=b.name,
                role=b.kind,
                url=f"{b.facts.scheme}://{b.facts.host}:{b.facts.port}{b.facts.prefix}",
                state=b.state,
                in_flight=b.in_flight,
                idle_connections=len(b.pool.connections),
                limit=b.facts.limit,
                capacity=b.capacity,
                latency_s=b.latency_s,
                tokens_per_s=b.tokens_per_s,
                engine=b.load,
            )
            for b in backends
        )


def _cause(route: ModelRoute, table: RoutingTable) -> Cause | None:
    if table.source == "cloud":
        return "source"
    if route.backends:
        return None
    return "starting" if route.is_starting else "absent"


def _shared_devices(backends: Iterable[Backend]) -> Mapping[str, None]:
    """The GPUs that serve both kinds of work, in the order of their backends."""
    kinds: dict[str, set[Role]] = {}
    for backend in backends:
        if backend.device:
            kinds.setdefault(backend.device, set()).add(backend.role)
    return dict.fromkeys(device for device, roles in kinds.items() if len(roles) > 1)
