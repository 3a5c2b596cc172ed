"""A router with a provider behind it, which a second test engine plays."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import router_embedders  # noqa: F401  # its behaviours are engines too
from router_engines import Engine, serve_engine
from router_server import RouterServer, backend, provider, serve_router, table_of
from router_wire import Response, eventually, post, wire
from sagepool_crds.pool import Role
from sagepool_router.cloud import Cause
from sagepool_router.limits import Limits
from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings
from sagepool_router.table import CloudTarget, RoutingTable

EMBEDDINGS = "/v1/embeddings"
NOBODY_WAITS = SchedulingSettings(queue=QueueLimits(max_requests=0))
CAUSES: tuple[Cause, ...] = ("source", "absent", "starting", "overloaded")


@dataclass(frozen=True)
class Site:
    """A router, the provider, and the pool's own engine where there is one."""

    router: RouterServer
    provider: Engine
    engine: Engine

    @property
    def port(self) -> int:
        return self.router.port

    @property
    def fallbacks(self) -> dict[str, int]:
        return dict(self.router.dispatcher.counters.fallbacks)

    @property
    def costs(self) -> dict[str, float]:
        """What the provider took by model, of those that it answered for."""
        counted = self.router.dispatcher.counters.by_model()
        return {model: c.cloud_cost for (model, _), c in counted.items() if c.cloud_cost}


def table_for(cause: Cause, cloud: CloudTarget, engine: Engine, role: Role) -> RoutingTable:
    """The table of a pool whose requests may go to the provider for this cause alone."""
    if cause == "overloaded":
        own = backend(engine.port, role=role, limit=1)
        return table_of(own, cloud=cloud, scheduling=NOBODY_WAITS, dimension=3)
    return table_of(
        absent={"ok": "its instances are Loading (1)" if cause == "starting" else "none exists"},
        absent_role=role,
        is_starting=cause == "starting",
        source="cloud" if cause == "source" else "auto",
        cloud=cloud,
        dimension=3,
    )


@contextmanager
def serve_site(
    behaviour: str,
    cause: Cause,
    *,
    role: Role = "llm",
    key_file: Path | None = None,
    limits: Limits | None = None,
    **of_provider: object,
) -> Iterator[Site]:
    """A pool that needs its provider for `cause`; for `overloaded` its one place is taken."""
    own = "held" if role == "llm" else "embeds"
    with ExitStack() as stack:
        theirs = stack.enter_context(serve_engine(behaviour))
        theirs.let_go()
        engine = stack.enter_context(serve_engine(own))
        cloud = provider(theirs.port, **of_provider)
        table = table_for(cause, cloud, engine, role)
        router = stack.enter_context(serve_router(table, limits, cloud_key=key_file))
        if cause == "overloaded":
            client = stack.enter_context(wire(router.port))
            client.send(post() if role == "llm" else post_texts("busy"))
            eventually(lambda: len(engine.requests) == 1, "the engine is full")
        yield Site(router, theirs, engine)


def post_texts(given: object, **more: object) -> bytes:
    return post(path=EMBEDDINGS, body=json.dumps({"model": "ok", "input": given, **more}).encode())


def said_of(response: Response) -> tuple[str, str]:
    return (response.headers["x-sagepool-instance"], response.headers["x-sagepool-reason"])


def sent(engine: Engine) -> dict[str, object]:
    """The body of the only request that an engine has got."""
    (request,) = engine.requests
    found = json.loads(request.body)
    assert isinstance(found, dict)
    return found
