"""GET /health: the process lives. GET /ready: it may be sent requests, or why not."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from sagepool_router.health import Health, Readiness

_NOT_READY = 503


class HealthBody(BaseModel):
    """The answer of /health."""

    status: Literal["ok"] = "ok"


class SourceBody(BaseModel):
    """The source of the table."""

    kind: str
    target: str
    connected: bool
    """Whether every change is seen as it happens; the last table is used meanwhile."""
    seconds: float
    """For how long it has been so."""
    error: str
    problems: list[str]
    """What was read and could not be used."""


class InstancesBody(BaseModel):
    """Instances of the table."""

    ready: int
    total: int


class ReadyBody(BaseModel):
    """The answer of /ready."""

    status: Literal["ready", "not_ready"]
    reasons: list[str]
    """Why it is not ready."""
    table_version: int
    instances: InstancesBody
    source: SourceBody


def build_health_routes(health: Health) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health", summary="The process lives")
    async def live() -> HealthBody:
        return HealthBody()

    @routes.get(
        "/ready",
        summary="It may be sent requests",
        responses={_NOT_READY: {"model": ReadyBody, "description": "Not ready, and why"}},
    )
    async def ready(response: Response) -> ReadyBody:
        readiness = health.judge()
        if not readiness.is_ready:
            response.status_code = _NOT_READY
        return _body(readiness)

    return routes


def _body(readiness: Readiness) -> ReadyBody:
    source = readiness.source
    return ReadyBody(
        status="ready" if readiness.is_ready else "not_ready",
        reasons=list(readiness.reasons),
        table_version=readiness.table_version,
        instances=InstancesBody(ready=readiness.routable, total=readiness.instances),
        source=SourceBody(
            kind=source.kind,
            target=source.target,
            connected=source.is_connected,
            seconds=round(source.lasted_s, 1),
            error=source.error,
            problems=list(source.problems),
        ),
    )
