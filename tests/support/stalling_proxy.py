"""A way to the API server that can stop carrying anything, in both directions, and go on."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import yaml


class StallingProxy:
    """Carries TCP connections to one address; runs in a thread of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def stall(self) -> None:
        """Carry nothing from now on: connections stay open, new ones are taken."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def flow(self) -> None:
        """Carry what was held back, and what comes."""
        self._loop.call_soon_threadsafe(self._flows.set)

    @contextmanager
    def running(self) -> Iterator["StallingProxy"]:
        """Listen while inside."""
        is_up = threading.Event()
        thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(is_up)))
        thread.start()
        try:
            assert is_up.wait(10), "the proxy does not start"
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stopped.set)
            thread.join(10)
            self._loop.close()

    async def _serve(self, is_up: threading.Event) -> None:
        self._stopped = asyncio.Event()
        self._flows.set()
        tasks: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            with suppress(OSError, asyncio.CancelledError):
                await self._connect(reader, writer)
            writer.close()
            tasks.discard(task)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        is_up.set()
        await self._stopped.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, server_writer))
                both.create_task(self._carry(server_reader, writer))
        except* OSError:
            pass
        finally:
            server_writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
        await self._flows.wait()
        writer.close()


@contextmanager
def stalling_proxy(kubeconfig: Path, through: Path) -> Iterator[StallingProxy]:
    """A proxy to the cluster's API server while inside; `through` becomes a kubeconfig over it."""
    config = yaml.safe_load(kubeconfig.read_text())
    (cluster,) = config["clusters"]
    server = urlsplit(cluster["cluster"]["server"])
    host = server.hostname or ""
    with StallingProxy(host, server.port or 443).running() as proxy:
        cluster["cluster"].update({"server": proxy.url, "tls-server-name": host})
        through.write_text(json.dumps(config))
        yield proxy
