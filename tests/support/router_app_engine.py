"""A small engine for tests of the router's process: healthy, and streams at the test's pace."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class PacedEngine:
    """Serves one llm. A stream sends one event, and the other when `released` is set."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.is_healthy = True
        self.released = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; after a stop on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Vanish, as a killed process does."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(
                    line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line
                )
                await reader.readexactly(int(fields.get(b"content-length", b"0")))
                await self._answer(head.split(b" ")[1].decode(), writer)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/health":
            writer.write(_sized(b"", 200 if self.is_healthy else 503))
        elif path == "/v1/models":
            writer.write(_sized(json.dumps({"data": [{"id": self.model}]}).encode()))
        elif path == "/metrics":
            writer.write(_sized(b""))
        else:
            writer.write(_STREAM + _chunk(b'data: {"n": 1}\n\n'))
            await writer.drain()
            await self.released.wait()
            writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def _sized(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def paced_engine(model: str = "qwen2.5-7b") -> AsyncIterator[PacedEngine]:
    """Run one until the block ends."""
    engine = PacedEngine(model)
    await engine.start()
    try:
        yield engine
    finally:
        engine.released.set()
        await engine.stop()
