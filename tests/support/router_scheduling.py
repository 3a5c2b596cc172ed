"""What tests of the running scheduler need: requests with names, their order, the admin port."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from router_app_objects import StillSource
from router_engines import Engine
from router_server import RouterServer
from router_wire import CHAT, Wire, chat_body, eventually, post, wire
from sagepool_router.app import create_admin_app
from sagepool_router.health import Health
from sagepool_router.metrics import Metrics
from sagepool_router.scheduling.decisions import Decision
from sagepool_router.sources.publisher import TablePublisher
from simulator_server import serving

LONG = "All that stands before a question and is the same each time. " * 40
"""A prompt of some 600 tokens: an engine that has read it need not read it again."""


def named(
    name: str,
    *,
    model: str = "ok",
    priority: str = "",
    session: str = "",
    deadline_ms: int = 0,
    path: str = CHAT,
    **more: object,
) -> bytes:
    """A small chat request that can be told from the others; empty fields are not sent."""
    given = {
        "x-request-id": name,
        "x-sagepool-priority": priority,
        "x-session-id": session,
        "x-sagepool-deadline-ms": str(deadline_ms or ""),
    }
    fields = tuple(f"{field}: {value}" for field, value in given.items() if value)
    body = chat_body(model, **{"max_tokens": 1, **more})
    return post(path=path, fields=fields, body=body)


def open_all(stack: ExitStack, port: int, requests: Sequence[bytes]) -> list[Wire]:
    """Send each on a connection of its own; they come in any order."""
    clients = [stack.enter_context(wire(port)) for _ in requests]
    for client, request in zip(clients, requests, strict=True):
        client.send(request)
    return clients


def count_waiting(router: RouterServer) -> int:
    """Requests in all queues."""
    return router.call(lambda: router.dispatcher.scheduler.waiting)


def wait_waiting(router: RouterServer, count: int) -> None:
    eventually(lambda: count_waiting(router) == count, f"{count} wait")


def queue_up(stack: ExitStack, router: RouterServer, requests: Sequence[bytes]) -> list[Wire]:
    """Send requests that have to wait, each when the one before it is in the queue."""
    clients = []
    waiting = count_waiting(router)
    for request in requests:
        clients += open_all(stack, router.port, [request])
        waiting += 1
        wait_waiting(router, waiting)
    return clients


def occupy(stack: ExitStack, router: RouterServer, engine: Engine, model: str = "ok") -> Wire:
    """Give an engine something to do: what comes after it waits where the limit is one."""
    before = len(engine.requests)
    (client,) = open_all(stack, router.port, [named("first", model=model)])
    eventually(lambda: len(engine.requests) == before + 1, "the engine is busy")
    return client


def names_at(engine: Engine) -> list[str]:
    """The names of the requests in the order in which the engine got them."""
    return [request.headers["x-request-id"] for request in engine.requests]


def decisions(router: RouterServer) -> list[Decision]:
    """All that were made, the oldest first."""
    return router.call(lambda: list(router.dispatcher.scheduler.log.kept))


def read_admin(router: RouterServer, path: str) -> Any:
    """What the admin port answers."""
    return _read(router, path).json()


def read_page(router: RouterServer) -> str:
    """Its metrics."""
    return _read(router, "/metrics").text


def _read(router: RouterServer, path: str) -> httpx.Response:
    """An answer of the admin port, asked in the router's own loop as uvicorn does."""
    dispatcher = router.dispatcher
    publisher = TablePublisher(dispatcher.swap, lambda: 1_700_000_000.0)
    health = Health(publisher, StillSource().status)
    metrics = Metrics(dispatcher, publisher, health, 1_600_000_000.0)
    app = create_admin_app(dispatcher, health, metrics)

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            return (await client.get(path)).raise_for_status()

    return asyncio.run_coroutine_threadsafe(get(), router.loop).result(10)


@contextmanager
def serve_simulator(**changes: Any) -> Iterator[int]:
    """Run a simulator in a thread until the block ends; yields its port."""
    started: Future[tuple[asyncio.AbstractEventLoop, int]] = Future()
    stop = asyncio.Event()

    async def main() -> None:
        async with serving(**changes) as url:
            started.set_result((asyncio.get_running_loop(), urlsplit(url).port or 0))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="simulator")
    thread.start()
    loop, port = started.result(10)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
