"""In which order a supervisor ends its processes, and what it ends with."""

import asyncio
import errno
import os
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from sage_command import Sage, free_port, pids_of, until_gone
from sagepool.laptop import supervisor
from sagepool.laptop.home import Home
from sagepool.laptop.launch import Launch, PartLaunch
from sagepool.laptop.process import identify
from sagepool.laptop.supervisor import Supervisor

pytestmark = pytest.mark.timeout(60)


def slow_to_end(name: str, pause_s: float, folder: Path) -> list[str]:
    """A process that tells when it runs and, a while after SIGTERM, that it ends."""
    ended = f"sleep {pause_s}; echo {name} >> {folder / 'ended'}; exit 0"
    return [
        "sh",
        "-c",
        f"trap '{ended}' TERM; touch {folder / name}; while :; do sleep 0.05; done",
    ]


def wait_for(paths: Sequence[Path], limit_s: float = 20) -> None:
    """Until all of the files are there."""
    end = time.monotonic() + limit_s
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end, paths
        time.sleep(0.02)


@asynccontextmanager
async def supervised(folder: Path, *parts: PartLaunch) -> AsyncIterator[asyncio.Task[int]]:
    """A supervisor whose processes run; it ends when the caller is done."""
    place = Home(folder / "home").place("pool", "rag")
    place.make()
    lock = place.lock()
    assert lock is not None
    myself = identify(os.getpid())
    assert myself is not None
    try:
        async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
            launch = Launch("rag", list(parts), "http://127.0.0.1:1")
            keeping = Supervisor(launch, place, myself, client)
            running = asyncio.create_task(keeping.run())
            async with asyncio.timeout(30):
                await asyncio.to_thread(wait_for, [folder / part.name for part in parts])
            yield running
            keeping.stop()
            async with asyncio.timeout(30):
                await running
    finally:
        os.close(lock)


async def test_the_router_has_ended_before_any_engine_is_told_to(tmp_path: Path) -> None:
    router = PartLaunch("router", "router", slow_to_end("router", 0.5, tmp_path), "/")
    engine = PartLaunch("chat-0", "engine", slow_to_end("chat-0", 0, tmp_path), "/")
    async with supervised(tmp_path, engine, router):
        pass
    assert (tmp_path / "ended").read_text().split() == ["router", "chat-0"]


async def test_it_ends_when_its_folder_is_replaced(tmp_path: Path) -> None:
    engine = PartLaunch("chat-0", "engine", slow_to_end("chat-0", 0, tmp_path), "/")
    async with supervised(tmp_path, engine) as running:
        place = Home(tmp_path / "home").place("pool", "rag")
        shutil.rmtree(place.folder)
        place.make()
        successor = place.lock()
        assert successor is not None
        for path in (place.record, place.router_file):
            path.write_text("the successor's")
        try:
            async with asyncio.timeout(20):
                assert await running == 0
        finally:
            os.close(successor)
        assert (tmp_path / "ended").read_text().split() == ["chat-0"]
        for path in (place.record, place.router_file):
            assert path.read_text() == "the successor's"


async def test_a_folder_that_cannot_be_looked_at_is_not_taken_for_a_removed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_FOLDER_POLL_S", 0.01)
    engine = PartLaunch("chat-0", "engine", slow_to_end("chat-0", 0, tmp_path), "/")
    async with supervised(tmp_path, engine) as running:
        lock_file = Home(tmp_path / "home").place("pool", "rag").lock_file
        looked = asyncio.Event()
        stat = Path.stat

        def fail(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
            if path == lock_file:
                looked.set()
                raise OSError(errno.ESTALE, "stale file handle")
            return stat(path, follow_symlinks=follow_symlinks)

        monkeypatch.setattr(Path, "stat", fail)
        for _ in range(2):
            looked.clear()
            async with asyncio.timeout(10):
                await looked.wait()
        assert not running.done()
        monkeypatch.undo()


def test_a_pool_whose_folder_is_removed_leaves_no_process(sage: Sage, pool_file: Path) -> None:
    started = sage.run("inference", "start", "-b", f"-f{pool_file}", f"-p{free_port()}")
    assert started.code == 0, started
    pids = pids_of(sage.status())
    shutil.rmtree(sage.home / "pools" / "rag")
    until_gone(pids)
    assert sage.run("inference", "status").code == 3
