"""An engine over a real socket that behaves, or not, as a test says."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class StubEngine:
    """Answers the paths that a probe asks for."""

    port: int = 0
    models: tuple[str, ...] = ("m",)
    max_model_len: int | None = None
    vector: tuple[float, ...] = (1.0, 0.0, 0.0)
    """Every embedding."""
    health: int = 200
    running: int = 0
    is_stalled: bool = False
    """It takes connections and never answers."""
    requests: list[str] = field(default_factory=list)
    """Paths, in order."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Listen, at the same port each time."""
        writers: list[asyncio.StreamWriter] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._answer(reader, writer)

        server = await asyncio.start_server(answer, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for writer in writers:
                writer.close()
            await server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            length = [h for h in head.lower().split("\r\n") if h.startswith("content-length:")]
            await reader.readexactly(int(length[0].split(":")[1]) if length else 0)
            self.requests.append(path)
            if self.is_stalled:
                return
            status, body = self._reply(path)
            writer.write(
                f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
            )
            await writer.drain()

    def _reply(self, path: str) -> tuple[int, bytes]:
        if path == "/health":
            return self.health, b""
        if path == "/v1/models":
            length = {"max_model_len": self.max_model_len} if self.max_model_len else {}
            return 200, json.dumps({"data": [{"id": n, **length} for n in self.models]}).encode()
        if path == "/v1/embeddings":
            return 200, json.dumps({"data": [{"embedding": self.vector}]}).encode()
        return 200, f"vllm:num_requests_running {self.running}\n".encode()
