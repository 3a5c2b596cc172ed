"""The real program: `sagepool-router serve` as a process of its own, on free ports."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

_PROGRAM = (
    sys.executable,
    "-c",
    "import sys; from sagepool_router.cli import main; sys.exit(main())",
)


async def start_router(
    *arguments: str, env: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    """Start the program; stderr is a pipe."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SAGEPOOL_ROUTER_")}
    return await asyncio.create_subprocess_exec(
        *_PROGRAM,
        *arguments,
        env={**inherited, **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


class RouterProcess:
    """A running router and what it logs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.logs: list[dict[str, Any]] = []
        self.url = ""
        """Base address for clients."""
        self.admin_url = ""
        self.client = httpx.AsyncClient(timeout=20)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def read_logs(self) -> None:
        """Collect log lines until the program closes its stderr."""
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            entry = json.loads(line)
            self.logs.append(entry)
            if entry["message"] == "listening":
                self.url = f"http://{entry['address']}"
                self.admin_url = f"http://{entry['admin_address']}"

    def messages(self) -> list[str]:
        """The constant messages, in order."""
        return [entry["message"] for entry in self.logs]

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(self.url + path)

    async def admin_get(self, path: str) -> httpx.Response:
        return await self.client.get(self.admin_url + path)

    async def until_status(self, path: str, status: int, *, admin: bool = False) -> httpx.Response:
        """Ask until the answer has this status."""
        base = self.admin_url if admin else self.url
        async with asyncio.timeout(20):
            while True:
                answer = await self.client.get(base + path)
                if answer.status_code == status:
                    return answer
                await asyncio.sleep(0.02)

    async def until_unready_because(self, words: str) -> None:
        """Ask /ready until one of its reasons has these words."""
        async with asyncio.timeout(20):
            while True:
                answer = await self.client.get(self.url + "/ready")
                if answer.status_code == 503 and words in " ".join(answer.json()["reasons"]):
                    return
                await asyncio.sleep(0.02)

    async def until_instances(self, **wanted: bool) -> dict[str, Any]:
        """Wait for a table with exactly these instances, each routable or not."""
        async with asyncio.timeout(20):
            while True:
                table: dict[str, Any] = (await self.admin_get("/admin/table")).json()
                if {i["name"]: i["routable"] for i in table["instances"]} == wanted:
                    return table
                await asyncio.sleep(0.05)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    async def wait(self, limit_s: float = 20) -> int:
        """The exit code."""
        async with asyncio.timeout(limit_s):
            return await self._process.wait()


@asynccontextmanager
async def running_router(
    *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[RouterProcess]:
    """Run the router on free ports from when it listens until the block ends."""
    process = await start_router(
        "serve",
        "--host=127.0.0.1",
        "--port=0",
        "--admin-host=127.0.0.1",
        "--admin-port=0",
        "--log-format=json",
        *arguments,
        env=env,
    )
    router = RouterProcess(process)
    reading = asyncio.create_task(router.read_logs())
    try:
        async with asyncio.timeout(30):
            while not router.url:
                assert not reading.done(), f"the router ended: {router.logs}"
                await asyncio.sleep(0.01)
        yield router
    finally:
        if process.returncode is None:
            process.kill()
        await router.client.aclose()
        await process.wait()
        await reading


@asynccontextmanager
async def file_router(config: Path, *arguments: str) -> AsyncIterator[RouterProcess]:
    """Run the router from a file, from when it is ready until the block ends."""
    async with running_router("--source=file", f"--config={config}", *arguments) as router:
        await router.until_status("/ready", 200)
        yield router
