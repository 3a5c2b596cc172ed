"""GET /v1/models: what clients may send as `model`."""

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from sagepool_crds import names
from sagepool_crds.pool import Role
from sagepool_router.auth.keys import ApiKey
from sagepool_router.cloud import covers
from sagepool_router.errors import Unavailable, UnknownModel
from sagepool_router.table import ModelRoute, RoutingTable


class Model(BaseModel):
    """A model as the OpenAI API writes it, and what a pool adds."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = names.ROUTER_OWNER
    root: str
    """The model's own name; differs from the id for an alias."""
    parent: str | None
    """The model that it is a LoRA adapter of; null when it is none."""
    role: Role
    ready: bool
    """Whether an instance, or the provider in its place, can answer now."""


class ModelList(BaseModel):
    """All models, aliases included."""

    object: Literal["list"] = "list"
    data: list[Model]


def build_models_routes(
    table: Callable[[], RoutingTable],
    retry_after_s: float,
    identify: Callable[[bytes | None], ApiKey | None],
) -> APIRouter:
    """The routes.

    Args:
        table: the table in use.
        retry_after_s: what a client is told to wait while there is none.
        identify: whose request it is, by its authorization; None where no key is asked for.
    """
    routes = APIRouter(tags=["models"])

    def loaded_models(request: Request) -> dict[str, ModelRoute]:
        authorization = request.headers.get("authorization")
        key = identify(None if authorization is None else authorization.encode("latin-1"))
        found = table()
        if not found.version:
            # an empty list would be a claim that we cannot make
            raise Unavailable(
                "no table was loaded yet: GET /ready says why",
                "no_table",
                retry_after_s=retry_after_s,
            )
        return {
            name: route for name, route in found.models.items() if key is None or key.allows(name)
        }

    @routes.get("/v1/models", summary="List the models, aliases included")
    async def list_models(request: Request) -> ModelList:
        models = loaded_models(request)
        used = table()
        return ModelList(data=[_model(name, route, used) for name, route in models.items()])

    @routes.get("/v1/models/{model:path}", summary="Get one model by its name or an alias")
    async def get_model(model: str, request: Request) -> Model:
        models = loaded_models(request)
        route = models.get(model)
        if route is None:
            raise UnknownModel(model, models)
        return _model(model, route, table())

    return routes


def _model(name: str, route: ModelRoute, table: RoutingTable) -> Model:
    return Model(
        id=name,
        created=route.created,
        root=route.name,
        parent=route.parent or None,
        role=route.role,
        ready=_is_answered(route, table),
    )


def _is_answered(route: ModelRoute, table: RoutingTable) -> bool:
    cloud = table.cloud
    if table.source == "cloud":
        return cloud is not None and covers(cloud, route.name, route.role, "source")
    if route.backends or cloud is None or table.suspended:
        return bool(route.backends)
    return covers(cloud, route.name, route.role, "starting" if route.is_starting else "absent")
