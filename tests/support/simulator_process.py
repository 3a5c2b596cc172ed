"""A simulator as a process of its own, for tests that need a well-behaved engine, or a bad one."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx


async def start_simulator(*arguments: str) -> Process:
    """Start `sagepool-simulator serve` on a free port of the loopback interface."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sagepool_simulator.cli",
        "serve",
        "--host=127.0.0.1",
        "--port=0",
        *arguments,
        stderr=PIPE,
    )


async def run_to_its_end(*arguments: str, limit_s: float = 20.0) -> tuple[int | None, str]:
    """Run `sagepool-simulator serve` where it ends by itself: its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sagepool_simulator.cli", "serve", *arguments, stderr=PIPE
    )
    async with asyncio.timeout(limit_s):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()


async def read_url(process: Process, limit_s: float = 20.0) -> str:
    """Wait until the simulator says where it listens."""
    assert process.stderr is not None
    async with asyncio.timeout(limit_s):
        line = (await process.stderr.readline()).decode()
    assert "serving" in line, line
    return f"http://{line.split()[-1]}"


async def stop_simulator(process: Process, limit_s: float = 20.0) -> int | None:
    """Send SIGTERM unless it has ended; return its exit code."""
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(limit_s):
        await process.communicate()
    return process.returncode


@asynccontextmanager
async def simulator(*arguments: str, limit_s: float = 20.0) -> AsyncIterator[str]:
    """Start `sagepool-simulator serve` on a free port; yield its base URL when it is healthy."""
    process = await start_simulator(*arguments)
    try:
        url = await read_url(process, limit_s)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{url}/health")).status_code == 200
        yield url
    finally:
        await stop_simulator(process, limit_s)
