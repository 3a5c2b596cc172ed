"""The life of the router's process: start, serve, stop.

One event loop runs the server for clients, the admin server and the source of the table. On
SIGTERM /ready turns 503, no connection is accepted any more, requests under way have
`--grace-seconds` to finish, and the process ends with 0. A second signal ends it at once. A source
that breaks down ends it with 1: Kubernetes starts it anew, and nothing goes on half alive.
"""

import asyncio
import contextlib
import gc
import logging
import math
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from random import Random
from typing import Final, Literal

import uvicorn
import uvloop
from fastapi import FastAPI

from sagepool_router.app import create_admin_app, create_app
from sagepool_router.auth.source import KeySource
from sagepool_router.config import Settings
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.health import Health
from sagepool_router.logging import configure_logging
from sagepool_router.metrics import Metrics
from sagepool_router.protocol import InferenceProtocol
from sagepool_router.sources.opening import SourceOpener, StartError, open_source
from sagepool_router.sources.publisher import TablePublisher
from sagepool_router.sources.status import Source

_logger: Final = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_BACKLOG: Final = 2048
_STOP_MARGIN_S: Final = 2
"""uvicorn waits a little longer than the drain, whose end closes the last connections."""


def run(settings: Settings) -> int:
    """Serve until a signal comes. Returns the exit code."""
    configure_logging(settings.log_format, settings.log_level)
    _raise_file_limit()
    try:
        with contextlib.ExitStack() as stack:
            sockets = [
                stack.enter_context(_bind("--port", settings.host, settings.port)),
                stack.enter_context(
                    _bind("--admin-port", settings.admin_host, settings.admin_port)
                ),
            ]
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(serve(settings, open_source, *sockets))
    except StartError as error:
        print(f"sagepool-router: {error}", file=sys.stderr)
        return 1


def _bind(flag: str, host: str, port: int) -> socket.socket:
    """Listen, or say why not: uvicorn would only log the system's words."""
    try:
        family, type_, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, type_, protocol)
    except OSError as error:
        raise StartError(f"cannot listen on {host}: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise StartError(
            f"cannot listen on {host} port {port}: {why}; choose another with {flag}"
        ) from None
    return listener


def _raise_file_limit() -> None:
    """A request needs two sockets; the usual soft limit of 1024 files is 500 requests."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Server(uvicorn.Server):
    """Leaves the signals to `_Process`: uvicorn would raise them once more when it has stopped,
    and a graceful stop would end with the signal's exit code."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _Process:
    """What runs, and how it ends."""

    def __init__(
        self,
        settings: Settings,
        dispatcher: Dispatcher,
        health: Health,
        server: _Server,
        admin: _Server,
    ) -> None:
        self._settings = settings
        self._dispatcher = dispatcher
        self._health = health
        self._server = server
        self._admin = admin
        self._drain: asyncio.Task[None] | None = None
        self.exit_code = 0

    async def run(
        self, source: Source, listener: socket.socket, admin_listener: socket.socket
    ) -> None:
        """Serve until stopped."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._take_signal, number)
        following = loop.create_task(source.run(), name="source")
        admin = loop.create_task(self._admin.serve([admin_listener]), name="admin")
        parts = [following, admin]
        if self._dispatcher.keys is not None:
            parts.append(loop.create_task(self._dispatcher.keys.run(), name="api-keys"))
        for task in parts:
            task.add_done_callback(self._task_ended)
        try:
            await self._server.serve([listener])
            if self._drain is not None and not self._server.force_exit:
                await self._drain
        finally:
            if self._server.force_exit:
                await self._server.lifespan.shutdown()  # uvicorn leaves it hanging then
            self._admin.should_exit = self._admin.force_exit = True
            for task in parts:
                if task is not admin:
                    task.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await self._dispatcher.close()
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Finish what is under way and end."""
        self._health.stop()
        self._server.should_exit = True
        if self._drain is None:
            grace_s = self._settings.grace_s
            self._drain = asyncio.get_running_loop().create_task(self._dispatcher.drain(grace_s))

    def _take_signal(self, number: int) -> None:
        if self._drain is None:
            _logger.info("stopping", extra={"signal": signal.Signals(number).name})
            self.stop()
        else:
            _logger.warning("stopping at once", extra={"signal": signal.Signals(number).name})
            self._server.force_exit = True

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        _logger.critical("broke down", extra={"part": task.get_name()}, exc_info=task.exception())
        self.exit_code = 1
        self.stop()


async def serve(
    settings: Settings,
    open_source: SourceOpener,
    listener: socket.socket,
    admin_listener: socket.socket,
) -> int:
    """Serve on sockets that listen until a signal comes or a part breaks down.

    Args:
        settings: what to run with.
        open_source: makes the source of the table.
        listener: where clients connect.
        admin_listener: where the admin port's clients connect.

    Returns:
        The exit code.

    Raises:
        StartError: the source cannot be used at all.
    """
    started_at = time.time()
    dispatcher = await _make_dispatcher(settings)
    publisher = TablePublisher(dispatcher.swap, time.time)
    async with open_source(settings, publisher) as source:
        health = Health(publisher, source.status)
        metrics = Metrics(dispatcher, publisher, health, started_at)
        server = _Server(
            _config(
                create_app(dispatcher, health, metrics),
                http=InferenceProtocol,
                lifespan="on",
                keep_alive_s=settings.limits.keepalive_s,
                stop_s=settings.grace_s + _STOP_MARGIN_S,
            )
        )
        admin = _Server(_config(create_admin_app(dispatcher, health, metrics), http="httptools"))
        process = _Process(settings, dispatcher, health, server, admin)
        # What was imported lives as long as the process: a full collection that walks it stops
        # every stream for tens of milliseconds.
        gc.collect()
        gc.freeze()
        _logger.info(
            "listening",
            extra={
                "address": _address(listener),
                "admin_address": _address(admin_listener),
                "source": settings.source,
                "target": source.status().target,
            },
        )
        await process.run(source, listener, admin_listener)
        _logger.info("stopped")
        return process.exit_code


async def _make_dispatcher(settings: Settings) -> Dispatcher:
    keys = None if settings.api_keys is None else KeySource(settings.api_keys)
    if keys is not None:
        await keys.refresh()
    return Dispatcher(
        settings.limits,
        random=Random().random,
        keys=keys,
        cloud_key=settings.cloud_api_key_file,
        logs_requests=settings.logs_requests,
    )


def _config(
    app: FastAPI,
    *,
    http: type[asyncio.Protocol] | Literal["httptools"],
    lifespan: Literal["on", "off"] = "off",
    keep_alive_s: float = 5,
    stop_s: float | None = None,
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=math.ceil(keep_alive_s),
        timeout_graceful_shutdown=None if stop_s is None else math.ceil(stop_s),
    )


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
