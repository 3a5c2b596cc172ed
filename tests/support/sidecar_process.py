"""A sidecar as a process of its own, beside an engine of a test."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_LIMIT_S = 20.0


async def start_sidecar(*arguments: str) -> Process:
    """Start `sagepool-sidecar` on a free port of the loopback interface."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sagepool_sidecar.cli",
        "--host=127.0.0.1",
        "--port=0",
        *arguments,
        stderr=PIPE,
    )


@asynccontextmanager
async def sidecar(*arguments: str) -> AsyncIterator[tuple[Process, str]]:
    """Start it; yield the process and its base URL."""
    process = await start_sidecar(*arguments)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(_LIMIT_S):
            line = (await process.stderr.readline()).decode()
        assert "serving" in line, line
        yield process, f"http://{line.split()[-1]}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
