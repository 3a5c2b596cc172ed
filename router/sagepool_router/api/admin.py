"""GET /admin/table and /admin/routable: what this router routes to. Read-only."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from sagepool_crds.instance import Phase
from sagepool_crds.pool import Role
from sagepool_router.backend import State
from sagepool_router.fleet import BackendLoad
from sagepool_router.table import InstanceView, RoutingTable


class BackendBody(BaseModel):
    """An address of an instance, as this router sees it."""

    url: str
    role: Role
    state: State
    in_flight: int
    idle_connections: int
    limit: int
    """What it may have in flight at most."""
    capacity: int
    """What it may have in flight now: less than its limit while it is slow to start, ejected, held
    back, or would let requests wait inside it."""
    latency_seconds: float
    tokens_per_second: float


class InstanceBody(BaseModel):
    """An instance of the pool."""

    name: str
    roles: list[Role]
    models: list[str]
    phase: Phase
    routable: bool
    reason: str
    """Why it gets no requests; empty when it does."""
    in_flight: int
    idle_connections: int
    backends: list[BackendBody]


class ModelBody(BaseModel):
    """A name that clients may send."""

    name: str
    model: str
    role: Role
    instances: list[str]
    absence: str
    """Why no instance answers; empty when one does."""


class TableBody(BaseModel):
    """The routing table."""

    version: int
    pool: str
    suspended: bool
    models: list[ModelBody]
    instances: list[InstanceBody]


class RoutableBody(BaseModel):
    """The instances that requests are sent to."""

    version: int
    """Of the table."""
    instances: list[str]


def build_admin_routes(
    table: Callable[[], RoutingTable], loads: Callable[[], Sequence[BackendLoad]]
) -> APIRouter:
    """The routes.

    Args:
        table: the table in use.
        loads: the live figures of its backends.
    """
    routes = APIRouter(prefix="/admin", tags=["admin"])

    @routes.get("/table", summary="The routing table and its live load")
    async def show_table() -> TableBody:
        return _table(table(), loads())

    @routes.get("/routable", summary="Names of the instances that this router sends to")
    async def show_routable() -> RoutableBody:
        # Asked a few times a second while engines are replaced: no live figures.
        now = table()
        names = [view.name for view in now.instances if view.routable]
        return RoutableBody(version=now.version, instances=names)

    return routes


def _table(table: RoutingTable, loads: Sequence[BackendLoad]) -> TableBody:
    by_instance: dict[str, list[BackendLoad]] = defaultdict(list)
    for load in loads:
        by_instance[load.instance].append(load)
    return TableBody(
        version=table.version,
        pool=table.pool,
        suspended=table.suspended,
        models=[
            ModelBody(
                name=name,
                model=route.name,
                role=route.role,
                instances=[backend.instance for backend in route.backends],
                absence=route.absence,
            )
            for name, route in table.models.items()
        ],
        instances=[_instance(view, by_instance[view.name]) for view in table.instances],
    )


def _instance(view: InstanceView, loads: Sequence[BackendLoad]) -> InstanceBody:
    return InstanceBody(
        name=view.name,
        roles=list(view.roles),
        models=list(view.models),
        phase=view.phase,
        routable=view.routable,
        reason=view.reason,
        in_flight=sum(load.in_flight for load in loads),
        idle_connections=sum(load.idle_connections for load in loads),
        backends=[
            BackendBody(
                url=load.url,
                role=load.role,
                state=load.state,
                in_flight=load.in_flight,
                idle_connections=load.idle_connections,
                limit=load.limit,
                capacity=load.capacity,
                latency_seconds=load.latency_s,
                tokens_per_second=load.tokens_per_s,
            )
            for load in loads
        ],
    )
