"""The FastAPI applications: the one that clients reach, and the admin port's.

The inference routes are not here: `protocol.InferenceProtocol` answers them before the
application sees them, which only documents them.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, TypedDict

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sagepool_router.api.admin import build_admin_routes
from sagepool_router.api.demand import build_demand_routes
from sagepool_router.api.health import build_health_routes
from sagepool_router.api.inference import build_inference_routes, document_inference
from sagepool_router.api.metrics import build_metrics_routes
from sagepool_router.api.models import build_models_routes
from sagepool_router.api.scheduling import build_scheduling_routes
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.errors import InvalidRequest, RouterError
from sagepool_router.health import Health
from sagepool_router.metrics import Metrics
from sagepool_router.request_ids import RequestIds, error_response


class LifespanState(TypedDict):
    """What the protocol finds in uvicorn's lifespan state."""

    dispatcher: Dispatcher


class _PoolApp(FastAPI):
    """What clients reach; /openapi.json is made when it is first asked for."""

    def openapi(self) -> dict[str, Any]:
        """The document, with the routes that are answered elsewhere."""
        if self.openapi_schema is None:
            self.openapi_schema = super().openapi()
            document_inference(self.openapi_schema)
        return self.openapi_schema


def create_app(dispatcher: Dispatcher, health: Health, metrics: Metrics) -> FastAPI:
    """The application that clients reach.

    Its lifespan starts the dispatcher and hands it to the protocol; whoever serves it drains and
    closes the dispatcher. No route of it may replace the lifespan's state.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[LifespanState]:
        dispatcher.start()
        yield {"dispatcher": dispatcher}

    app = _build(
        _PoolApp,
        "sagepool",
        "One OpenAI-compatible endpoint over the engines of a pool.",
        dispatcher,
        [
            build_inference_routes(),
            build_models_routes(
                lambda: dispatcher.fleet.table,
                dispatcher.limits.absence_retry_after_s,
                dispatcher.identify,
            ),
            build_health_routes(health),
            build_metrics_routes(metrics, with_keys=False),
        ],
    )
    app.router.lifespan_context = lifespan
    return app


def create_admin_app(dispatcher: Dispatcher, health: Health, metrics: Metrics) -> FastAPI:
    """The read-only application of the admin port; it stays while the other one drains."""
    return _build(
        FastAPI,
        "sagepool admin",
        "What this router routes to. Read-only.",
        dispatcher,
        [
            build_admin_routes(lambda: dispatcher.fleet.table, dispatcher.snapshot),
            build_demand_routes(dispatcher.demand.report),
            build_scheduling_routes(
                dispatcher.scheduler,
                lambda: asdict(dispatcher.scheduler.settings),
                dispatcher.clock,
            ),
            build_health_routes(health),
            build_metrics_routes(metrics, with_keys=True),
        ],
    )


def _build(
    kind: type[FastAPI],
    title: str,
    description: str,
    dispatcher: Dispatcher,
    routes: Sequence[APIRouter],
) -> FastAPI:
    app = kind(
        title=title,
        description=description,
        version=version("sagepool"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in routes:
        app.include_router(router)
    for raised in (RouterError, HTTPException, RequestValidationError):
        app.add_exception_handler(raised, _answer_error)
    app.add_middleware(RequestIds, make_id=dispatcher.next_request_id)
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    return error_response(_translate(request, error))


def _translate(request: Request, error: Exception) -> RouterError:
    """What FastAPI and Starlette raise, as an error of the router."""
    match error:
        case RouterError():
            return error
        case RequestValidationError():
            first = error.errors()[0]
            param = ".".join(str(part) for part in first["loc"][1:])
            return InvalidRequest(f"{param}: {first['msg']}", "invalid_value", param=param)
        case HTTPException(status_code=404):
            return InvalidRequest(
                f"there is no route {request.url.path[:200]}: GET /openapi.json lists all",
                "unknown_route",
                status=404,
            )
        case HTTPException(status_code=405):
            return InvalidRequest(
                f"{request.method} is not allowed on {request.url.path[:200]}",
                "method_not_allowed",
                status=405,
                headers=error.headers,
            )
        case HTTPException():
            return InvalidRequest(
                str(error.detail),
                "invalid_request",
                status=error.status_code,
                headers=error.headers,
            )
        case _:
            raise error
