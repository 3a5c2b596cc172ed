"""Runs a router on a thread of its own, reached through a socket that only this user can open.

It is the router that serves pools, protocol, scheduler and all; only its table's source is special:
the instances are fixed, and probed as those of a file are.
"""

import asyncio
import contextlib
import logging
import os
import random
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import uvicorn
import uvloop
from fastapi import FastAPI

from sagepool.endpoints import Endpoint, Kind
from sagepool.errors import ConfigurationError, UnavailableError
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import InferencePool
from sagepool_router.app import create_app
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.health import Health
from sagepool_router.limits import Limits
from sagepool_router.metrics import Metrics
from sagepool_router.protocol import InferenceProtocol
from sagepool_router.sources.engine_http import EngineConnections
from sagepool_router.sources.prober import Prober
from sagepool_router.sources.publisher import TablePublisher
from sagepool_router.sources.status import SourceStatus

_logger: Final = logging.getLogger(__name__)

_URL: Final = "http://control-plane/v1"
_STOPPED: Final = "the control plane was stopped"
_STOP_LIMIT_S: Final = 10.0
_STOP_GRACE_S: Final = 1
"""For connections that are still open: whoever stops it has closed its own."""
_LONGEST_PATH: Final = 100
"""Of a Unix domain socket; Linux takes 107 bytes, others fewer."""


class _Instances:
    """The source of the table: fixed instances, whose status is found by probing.

    Args:
        pool: whose they are.
        instances: the engines.
        publisher: takes the tables.
    """

    def __init__(
        self,
        pool: InferencePool,
        instances: Sequence[InferenceInstance],
        publisher: TablePublisher,
    ) -> None:
        self._pool = pool
        self._instances = instances
        self._publisher = publisher
        self._changed = asyncio.Event()
        self._started = time.monotonic()
        self.has_started = asyncio.Event()
        """Every engine has been probed, and one can be sent requests."""
        self.found: Sequence[InferenceInstance] = instances
        """With their status of last time."""

    async def run(self) -> NoReturn:
        """Probe and publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            prober = Prober(EngineConnections(), group, self._changed.set)
            prober.follow(self._instances)
            while True:
                self._changed.clear()
                self.found = [prober.with_status(instance) for instance in self._instances]
                # All at once: one that joins later is eased in like an engine that just started.
                if all(instance.status.conditions for instance in self.found):
                    self._publisher.publish(self._pool, self.found)
                if any(view.routable for view in self._publisher.table.instances):
                    self.has_started.set()
                await self._changed.wait()

    def status(self) -> SourceStatus:
        """How it is doing: nothing can go wrong."""
        lasted_s = time.monotonic() - self._started
        return SourceStatus("control plane", "instances", True, lasted_s, "")


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.listens.set()


class RouterPlane:
    """The router, from `start` to `stop`.

    Args:
        pool: what it routes for.
        instances: the engines.
    """

    def __init__(self, pool: InferencePool, instances: Sequence[InferenceInstance]) -> None:
        self._pool = pool
        self._instances = instances
        self._folder = Path(tempfile.mkdtemp(prefix="sagepool-"))
        if len(os.fsencode(self._socket)) > _LONGEST_PATH:
            self._folder.rmdir()
            raise ConfigurationError(
                f"the path {self._socket} is too long for a socket: set TMPDIR to a shorter one"
            )
        self._lock = threading.Lock()
        """`stop` may come from another thread while `start` begins."""
        self._thread: threading.Thread | None = None
        self._started: Future[None] = Future()
        self._stopping = threading.Event()
        self._wake: Callable[[], None] = lambda: None
        self._found: Callable[[], Sequence[InferenceInstance]] = lambda: instances

    @property
    def endpoints(self) -> Mapping[Kind, Endpoint]:
        """Where it answers, by kind."""
        endpoint = Endpoint(_URL, uds=self._socket)
        served = {e.role for instance in self._instances for e in instance.spec.endpoints}
        kinds: tuple[Kind, Kind] = ("llm", "embedding")
        return {kind: endpoint for kind in kinds if kind in served}

    def start(self, timeout_s: float) -> None:
        """Start it and wait until every engine was probed and one is ready.

        Raises:
            UnavailableError: none was in time; says why, for each.
        """
        # A daemon, so that a client that nobody closed does not keep the interpreter from ending.
        thread = threading.Thread(
            target=self._run, args=(timeout_s,), name="sagepool-control-plane", daemon=True
        )
        with self._lock:
            if self._stopping.is_set():
                raise UnavailableError(_STOPPED)
            thread.start()
            self._thread = thread
        self._started.result()

    def explain(self) -> str:
        """Its policy and every engine's state: some lines for people."""
        lines = [f"control plane with policy {self._pool.spec.scheduling.policy}"]
        for instance in self._found():
            for endpoint in instance.spec.endpoints:
                told = f"{endpoint.url}  {endpoint.models[0]} ({endpoint.role})"
                message = f": {instance.status.message}" if instance.status.message else ""
                lines.append(f"{told}  {instance.status.phase}{message}")
        return "\n".join(lines)

    def stop(self) -> None:
        """Stop it; nothing of it is left."""
        with self._lock:
            self._stopping.set()
            thread = self._thread
        self._wake()
        if thread is not None:
            thread.join(_STOP_LIMIT_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _socket(self) -> Path:
        return self._folder / "router"

    def _run(self, startup_s: float) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(startup_s))
        except Exception as error:
            if self._started.done():
                _logger.exception("the control plane broke down")
            else:
                broken = UnavailableError(f"the control plane cannot run here: {error}")
                broken.__cause__ = error
                self._started.set_exception(broken)

    async def _serve(self, startup_s: float) -> None:
        stop = asyncio.Event()
        self._wake = partial(_wake, asyncio.get_running_loop(), stop)
        if self._stopping.is_set():
            stop.set()
        dispatcher = Dispatcher(Limits(), random=random.random)
        publisher = TablePublisher(dispatcher.swap, time.time)
        source = _Instances(self._pool, self._instances, publisher)
        self._found = lambda: source.found
        health = Health(publisher, source.status)
        app = create_app(dispatcher, health, Metrics(dispatcher, publisher, health, time.time()))
        server = _Server(_config(app, self._socket))
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(server.serve())
                following = group.create_task(source.run())
                await self._until_started(source, server, stop, startup_s)
                await stop.wait()
                await dispatcher.drain(0)
                server.should_exit = True
                await serving
                following.cancel()
        finally:
            await dispatcher.close()

    async def _until_started(
        self, source: _Instances, server: _Server, stop: asyncio.Event, limit_s: float
    ) -> None:
        """Say to `start` that all is well, or why not."""
        try:
            async with asyncio.timeout(limit_s):
                await server.listens.wait()
                await _first_of(source.has_started, stop)
        except TimeoutError:
            found = "; ".join(map(_told, source.found))
            self._started.set_exception(
                UnavailableError(f"no engine was ready within {limit_s:g} s: {found}")
            )
            stop.set()
            return
        if source.has_started.is_set():
            self._started.set_result(None)
        else:
            self._started.set_exception(UnavailableError(_STOPPED))


def _config(app: FastAPI, path: Path) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        uds=str(path),
        http=InferenceProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_STOP_GRACE_S,
    )


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _wake(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # it has ended meanwhile
        loop.call_soon_threadsafe(stop.set)


def _told(instance: InferenceInstance) -> str:
    url = instance.spec.endpoints[0].url
    return f"{url}: {instance.status.message or 'not probed yet'}"
