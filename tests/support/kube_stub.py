"""An HTTP server that answers as a test scripts it, where the API server should be."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web

Answer: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KubeStub:
    """Answers requests with the scripted answers in turn, the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        """Take the script."""
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.port = 0
        self._answers = list(answers)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.requests.append(request)
        self.bodies.append(json.loads(text) if text else None)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return await answer(request)

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here, to the namespace `team-a`."""
        parts = {
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [
                {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "team-a"}}
            ],
        }
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "x", **parts}
        path.write_text(json.dumps(config))
        return path

    @asynccontextmanager
    async def running(self) -> AsyncIterator["KubeStub"]:
        """Listen while inside."""
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


def says(data: object, code: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(data, status=code, headers=headers)

    return answer


def serves(objects: Mapping[str, object]) -> Answer:
    """Answer with what is there by path; 404 elsewhere."""

    async def answer(request: web.Request) -> web.StreamResponse:
        found = objects.get(request.path)
        if found is None:
            return web.json_response({"kind": "Status", "reason": "NotFound"}, status=404)
        return web.json_response(found)

    return answer


def says_text(text: str, code: int) -> Answer:
    """Answer with text, as a proxy in between does."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=code)

    return answer


def refuses(code: int, reason: str, message: str, *, retry_after: str = "") -> Answer:
    """Answer with a Status object."""
    status = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return says(status, code, {"Retry-After": retry_after} if retry_after else None)


def hangs() -> Answer:
    """Never answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    return answer


def streams(*pieces: bytes, then: str = "end") -> Answer:
    """Answer 200 and send pieces; then "end" the answer, "reset" the connection, or "hang"."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if then == "hang":
            await asyncio.Event().wait()
        if then == "reset":
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write_eof()
        return response

    return answer
