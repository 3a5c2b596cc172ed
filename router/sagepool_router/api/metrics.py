"""GET /metrics."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from sagepool_router.exposition import CONTENT_TYPE
from sagepool_router.metrics import Metrics


def build_metrics_routes(metrics: Metrics, *, with_keys: bool) -> APIRouter:
    """The route; `with_keys` tells of API keys too."""
    routes = APIRouter(tags=["metrics"])

    @routes.get(
        "/metrics",
        summary="Counters in Prometheus' text format",
        response_class=PlainTextResponse,
    )
    async def scrape() -> Response:
        return Response(metrics.render(with_keys=with_keys), media_type=CONTENT_TYPE)

    return routes
