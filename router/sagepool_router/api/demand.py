"""GET /admin/demand: what each group is wanted for, for the operator and for other autoscalers."""

from collections.abc import Callable, Sequence

from fastapi import APIRouter
from pydantic import BaseModel

from sagepool_router.counters import FIRST_BYTE_SECONDS
from sagepool_router.demand import GroupDemand


class FirstBytesBody(BaseModel):
    """A histogram of the time to an answer's first byte, since the start of this router."""

    bounds: list[float]
    """Upper bounds in seconds."""
    counts: list[int]
    """Answers up to each bound and above the one before it; the last count is of what took longer
    than every bound."""


class GroupDemandBody(BaseModel):
    """A group of the pool, as this router alone sees it."""

    group: str
    in_flight: int
    """Calls that its engines have."""
    capacity: int
    """Calls that its engines may have now, each no more than the one that takes fewest."""
    queued_requests: int
    """Requests that wait for its models, shared out evenly among the groups that serve them."""
    queued_texts: int
    """Texts of those that are embeddings."""
    idle_seconds: float
    """Since one of its models was last wanted, whoever answered."""
    unmet_seconds: float | None
    """Since a request came that no engine could take; null: there was none."""
    first_bytes: FirstBytesBody
    """Of its chat models."""


class DemandBody(BaseModel):
    """All groups of the pool."""

    groups: list[GroupDemandBody]


def build_demand_routes(report: Callable[[], Sequence[GroupDemand]]) -> APIRouter:
    """The route; `report` gives the groups as they are now."""
    routes = APIRouter(prefix="/admin", tags=["admin"])

    @routes.get("/demand", summary="What each group is wanted for")
    async def show_demand() -> DemandBody:
        return DemandBody(groups=[_body(group) for group in report()])

    return routes


def _body(demand: GroupDemand) -> GroupDemandBody:
    return GroupDemandBody(
        group=demand.group,
        in_flight=demand.in_flight,
        capacity=demand.capacity,
        queued_requests=demand.queued_requests,
        queued_texts=demand.queued_texts,
        idle_seconds=round(demand.idle_s, 3),
        unmet_seconds=None if demand.unmet_s is None else round(demand.unmet_s, 3),
        first_bytes=FirstBytesBody(
            bounds=list(FIRST_BYTE_SECONDS), counts=list(demand.first_byte_counts)
        ),
    )
