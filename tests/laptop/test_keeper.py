"""What a keeper takes for its process, and what not."""

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from sagepool.laptop.keeper import Keeper
from sagepool.laptop.launch import PORT, PartLaunch
from sagepool.laptop.logfile import LogFile
from sagepool.laptop.process import is_alive

pytestmark = pytest.mark.timeout(60)

SERVES = [sys.executable, "-m", "http.server", "--bind=127.0.0.1", PORT]
WAITS = ["sleep", "60"]


@asynccontextmanager
async def kept(
    folder: Path, command: list[str], claim: Callable[[Keeper], bool], port: int | None = None
) -> AsyncIterator[Keeper]:
    """A keeper whose record has come to be as claimed."""
    reached = asyncio.Event()

    def look() -> None:
        if claim(keeper):
            reached.set()

    async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
        part = PartLaunch("it", "engine", command, "/", port=port)
        keeper = Keeper(
            part,
            LogFile(folder / "it.log"),
            client,
            on_change=look,
            on_move=lambda: None,
            taken=set,
        )
        running = asyncio.create_task(keeper.run())
        try:
            async with asyncio.timeout(30):
                await reached.wait()
            yield keeper
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await keeper.stop()


async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Another program, in perfect health."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


async def test_a_process_that_answers_at_its_port_is_ready(tmp_path: Path) -> None:
    async with kept(tmp_path, SERVES, lambda keeper: keeper.record.phase == "ready") as keeper:
        assert keeper.is_stable.is_set()
        assert keeper.record.message == ""


async def test_while_it_starts_the_last_line_of_its_log_is_told(tmp_path: Path) -> None:
    loads = ["sh", "-c", r"printf 'begin\n\033[32mINFO\033[0m loading 3/8\n'; exec sleep 60"]

    def is_told(keeper: Keeper) -> bool:
        return keeper.record.doing == "INFO loading 3/8"

    async with kept(tmp_path, loads, is_told) as keeper:
        assert (keeper.record.phase, keeper.record.message) == ("starting", "")


async def test_what_it_said_while_it_started_is_over_once_it_is_ready(tmp_path: Path) -> None:
    told: list[str] = []

    def is_ready(keeper: Keeper) -> bool:
        told.append(keeper.record.doing)
        return keeper.record.phase == "ready"

    speaks = ["sh", "-c", f"echo loading; sleep 1; exec {shlex.join(SERVES)}"]
    async with kept(tmp_path, speaks, is_ready) as keeper:
        assert "loading" in told
        assert keeper.record.doing == ""


async def test_a_health_check_that_refuses_is_told_while_it_starts(tmp_path: Path) -> None:
    refuses = (
        "import http.server as h\n"
        "class Refuses(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_error(503)\n"
        f"h.HTTPServer(('127.0.0.1', {PORT}), Refuses).serve_forever()"
    )

    def is_told(keeper: Keeper) -> bool:
        return keeper.record.message == "its health check answers 503"

    async with kept(tmp_path, [sys.executable, "-c", refuses], is_told) as keeper:
        assert keeper.record.phase == "starting"


async def test_another_program_that_answers_there_is_not_taken_for_it(tmp_path: Path) -> None:
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as stranger:
        port = stranger.sockets[0].getsockname()[1]

        def is_told(keeper: Keeper) -> bool:
            return keeper.record.message == f"another program answers on port {port}"

        async with kept(tmp_path, WAITS, is_told, port) as keeper:
            assert keeper.record.phase == "starting"
            assert not keeper.is_stable.is_set()


async def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    ready = asyncio.Event()
    async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
        keeper = Keeper(
            PartLaunch(
                "it", "engine", ["sh", "-c", f"trap '' TERM; exec {shlex.join(SERVES)}"], "/"
            ),
            LogFile(tmp_path / "it.log"),
            client,
            on_change=lambda: ready.set() if keeper.record.phase == "ready" else None,
            on_move=lambda: None,
            taken=set,
            stop_s=0.5,
        )
        running = asyncio.create_task(keeper.run())
        async with asyncio.timeout(30):
            await ready.wait()
        process = keeper.record.process
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        async with asyncio.timeout(8):
            await keeper.stop()
        assert process is not None
        assert not is_alive(process)
