"""An API server with a Service and its pods, whose ports it forwards as a kubelet does."""

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

from sagepool_kube.api import Object

Serve: TypeAlias = Callable[[web.WebSocketResponse, bytes], Awaitable[None]]
"""Answers one piece of data that came for a pod."""


async def echo(way: web.WebSocketResponse, data: bytes) -> None:
    """Answer with the same."""
    await way.send_bytes(b"\x00" + data)


def fails(words: str) -> Serve:
    """Say on the error channel that the pod's port cannot be reached, as a kubelet does."""

    async def serve(way: web.WebSocketResponse, _data: bytes) -> None:
        await way.send_bytes(b"\x01" + words.encode())
        await way.close()

    return serve


@dataclass
class Pods:
    """The pods of Service `ns/rag-router`, by name; each serves in its own way."""

    serving: dict[str, Serve] = field(default_factory=lambda: {"a": echo})
    refuses: int = 0
    """Status with which every forward is refused."""
    ready: str = "True"
    target: str | int = "http"
    forwards: list[tuple[str, str]] = field(default_factory=list)
    """Pod and port of every way that was opened."""
    open: set[web.WebSocketResponse] = field(default_factory=set)
    url: str = ""

    def _service(self) -> Object:
        ports = [{"port": 80, "targetPort": self.target}]
        return {
            "metadata": {"name": "rag-router"},
            "spec": {"selector": {"x": "y"}, "ports": ports},
        }

    def _pod(self, name: str) -> Object:
        ports = [{"name": "admin", "containerPort": 9090}, {"name": "http", "containerPort": 8000}]
        return {
            "metadata": {"name": name, "namespace": "ns"},
            "spec": {"containers": [{"name": "router", "ports": ports}]},
            "status": {"conditions": [{"type": "Ready", "status": self.ready}]},
        }

    async def _get_service(self, _request: web.Request) -> web.Response:
        return web.json_response(self._service())

    async def _list_pods(self, request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == "x=y"
        return web.json_response({"metadata": {}, "items": [*map(self._pod, self.serving)]})

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if self.refuses:
            return web.json_response({}, status=self.refuses)
        assert request.headers["sec-websocket-protocol"] == "v4.channel.k8s.io"
        name, port = request.match_info["pod"], request.query["ports"]
        if name not in self.serving:
            return web.json_response({}, status=404)
        way = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await way.prepare(request)
        self.forwards.append((name, port))
        self.open.add(way)
        for channel in (0, 1):
            await way.send_bytes(bytes((channel,)) + struct.pack("<H", int(port)))
        async for message in way:
            assert message.data[0] == 0
            await self.serving[name](way, message.data[1:])
        self.open.discard(way)
        return way

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Pods"]:
        """Answer while inside."""
        app = web.Application()
        core = "/api/v1/namespaces/ns"
        app.router.add_get(f"{core}/services/rag-router", self._get_service)
        app.router.add_get(f"{core}/pods", self._list_pods)
        app.router.add_get(f"{core}/pods/{{pod}}/portforward", self._forward)
        runner: Any = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()
