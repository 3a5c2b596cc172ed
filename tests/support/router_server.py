"""A real router in a thread: uvicorn on uvloop with the product's protocol and a tiny app."""

import asyncio
import random
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import uvicorn
import uvloop
from fastapi import FastAPI, Request

from sagepool_crds.cloud import Source, When
from sagepool_crds.pool import Role
from sagepool_router.auth.source import KeySource
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.limits import Limits
from sagepool_router.protocol import InferenceProtocol
from sagepool_router.scheduling.settings import SchedulingSettings
from sagepool_router.table import Backend, CloudTarget, ModelRoute, RoutingTable

T = TypeVar("T")


class RouterServer:
    """What a test sees of a running router."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher, port: int) -> None:
        self.loop = loop
        self.dispatcher = dispatcher
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in the router's loop and hand back what it returns."""
        result: Future[T] = Future()

        def run() -> None:
            try:
                result.set_result(function())
            except BaseException as error:
                result.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return result.result(10)

    def swap(self, table: RoutingTable) -> None:
        """Give the router a new table."""
        self.call(lambda: self.dispatcher.swap(table))

    def drain(self, grace_s: float) -> Future[None]:
        """Begin a graceful stop."""
        return asyncio.run_coroutine_threadsafe(self.dispatcher.drain(grace_s), self.loop)

    def in_flight(self) -> dict[str, int]:
        """Requests in flight by instance."""
        return self.call(lambda: {b.instance: b.in_flight for b in self.dispatcher.snapshot()})

    def phases(self) -> list[str]:
        """What the requests under way are waiting for."""
        return self.call(lambda: [exchange.phase for exchange in self.dispatcher.exchanges])

    def idle(self) -> dict[str, int]:
        """Idle connections by instance."""
        loads = self.call(self.dispatcher.snapshot)
        return {b.instance: b.idle_connections for b in loads}


@contextmanager
def serve_router(
    table: RoutingTable,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    choose: Callable[[], float] | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    keys: KeySource | None = None,
    cloud_key: Path | None = None,
) -> Iterator[RouterServer]:
    """Run a router with this table until the block ends."""
    started: Future[RouterServer] = Future()
    stopping = threading.Event()

    async def main() -> None:
        dispatcher = Dispatcher(
            limits or Limits(),
            random=choose or random.Random(7).random,
            clock=clock,
            tls=tls,
            keys=keys,
            cloud_key=cloud_key,
        )
        dispatcher.swap(table)
        config = uvicorn.Config(
            _app(dispatcher),
            http=InferenceProtocol,
            ws="none",
            host="127.0.0.1",
            port=0,
            access_log=False,
            log_level="critical",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.002)
            if serving.done():
                await serving
        port = server.servers[0].sockets[0].getsockname()[1]
        started.set_result(RouterServer(asyncio.get_running_loop(), dispatcher, port))
        await asyncio.to_thread(stopping.wait)
        await dispatcher.drain(0)
        for client in server.server_state.connections:
            client.transport.abort()
        server.should_exit = True
        await serving

    def run() -> None:
        try:
            uvloop.run(main())
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = threading.Thread(target=run, name="router")
    thread.start()
    try:
        yield started.result(20)
    finally:
        stopping.set()
        thread.join(20)


def _app(dispatcher: Dispatcher) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, object]]:
        dispatcher.start()
        yield {"dispatcher": dispatcher}
        await dispatcher.close()

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    def health() -> dict[str, bool]:
        return {"ok": True}

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    return app


def backend(
    port: int,
    *,
    instance: str = "engine-a",
    role: str = "llm",
    engine: str = "vllm",
    models: tuple[str, ...] = ("ok",),
    limit: int = 256,
    prefix: str = "",
    host: str = "127.0.0.1",
    scheme: str = "http",
    device: str = "",
    price_per_hour: float = 0.0,
) -> Backend:
    """A backend on this machine."""
    return Backend(
        instance=instance,
        uid=f"uid-{instance}",
        role=role,
        engine=engine,
        scheme=scheme,
        host=host,
        port=port,
        prefix=prefix,
        models=models,
        limit=limit,
        device=device,
        price_per_hour=price_per_hour,
    )


def provider(
    port: int,
    *,
    models: dict[str, str] | None = None,
    when: tuple[When, ...] = ("absent", "starting", "overloaded"),
    same_space: tuple[str, ...] = (),
    path: str = "/v1",
    price_input: float = 0.0,
    price_output: float = 0.0,
) -> CloudTarget:
    """A provider on this machine; without `models` it has "ok" under the name "theirs"."""
    return CloudTarget(
        base_url=f"http://127.0.0.1:{port}{path}",
        models={"ok": "theirs"} if models is None else models,
        when=frozenset(when),
        same_space=frozenset(same_space),
        price_input=price_input,
        price_output=price_output,
    )


def table_of(
    *backends: Backend,
    aliases: dict[str, str] | None = None,
    absent: dict[str, str] | None = None,
    suspended: bool = False,
    version: int = 1,
    scheduling: SchedulingSettings | None = None,
    absent_role: Role = "llm",
    is_starting: bool = False,
    is_expected: bool = False,
    dimension: int | None = None,
    source: Source = "auto",
    cloud: CloudTarget | None = None,
    hold_s: float = 0.0,
) -> RoutingTable:
    """A table with every model of the backends.

    Args:
        backends: of the pool.
        aliases: further names by which models are known.
        absent: models without a backend, and why.
        suspended: the pool is.
        version: of the table.
        scheduling: of the pool; None: the defaults.
        absent_role: the role of models without a backend.
        is_starting: these have instances that are not ready yet.
        is_expected: and the pool asks for some.
        dimension: of all embeddings, as far as it is known.
        source: who may answer.
        cloud: the provider.
        hold_s: how long requests wait for a first instance of any model.
    """
    routes: dict[str, ModelRoute] = {}
    for model in dict.fromkeys(m for b in backends for m in b.models):
        members = tuple(b for b in backends if model in b.models)
        routes[model] = ModelRoute(model, members[0].role, members, created=1, dimension=dimension)
    for model, reason in (absent or {}).items():
        routes[model] = ModelRoute(
            model,
            absent_role,
            (),
            created=1,
            absence=reason,
            is_starting=is_starting,
            is_expected=is_expected,
            dimension=dimension,
        )
    routes = {name: replace(route, hold_s=hold_s) for name, route in routes.items()}
    names = {alias: routes[model] for alias, model in (aliases or {}).items()}
    return RoutingTable(
        version,
        "rag",
        {**names, **routes},
        suspended=suspended,
        scheduling=scheduling or SchedulingSettings(),
        source=source,
        cloud=cloud,
    )
