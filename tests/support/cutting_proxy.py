"""A way to a real API server that breaks at a write of the test's choice."""

import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from operator_faults import Loss
from sagepool_kube.auth import load_configuration

_READS: Final = ("GET", "HEAD")
_HOP_BY_HOP: Final = ("host", "connection", "transfer-encoding", "content-length")


class CuttingProxy:
    """Carries requests until it cuts, and nothing afterwards.

    So an API server sees the process that asks end between two writes.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._left = 0
        self._loss: Loss = "the write is lost"
        self.has_cut = False
        self.made: Counter[str] = Counter()
        """How many times the API server has said of an object that this made it, by its path."""
        self.port = 0

    def cut_at(self, write: int, loss: Loss) -> None:
        """Cut at this write, counted from now on; the first is 1."""
        self._left = write
        self._loss = loss

    async def carry(self, request: web.BaseRequest) -> web.StreamResponse:
        """Pass one request on, and its answer back as it comes."""
        try:
            return await self._carry(request)
        except ConnectionError:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # which nobody gets

    async def _carry(self, request: web.BaseRequest) -> web.StreamResponse:
        self._end_if_cut()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        body = await request.read()
        is_last = self._is_last(request.method)
        if is_last and self._loss == "the write is lost":
            self._end_if_cut()
        async with self._session.request(
            request.method, request.path_qs, headers=headers, data=body
        ) as answer:
            if answer.status == HTTPStatus.CREATED:
                self.made[request.path] += 1
            self._end_if_cut()
            back = web.StreamResponse(
                status=answer.status, headers={"Content-Type": answer.content_type}
            )
            await back.prepare(request)
            async for chunk in answer.content.iter_any():
                self._end_if_cut()
                await back.write(chunk)
            return back

    def _is_last(self, method: str) -> bool:
        if method in _READS:
            return False
        self._left -= 1
        is_last = self._left == 0
        self.has_cut = self.has_cut or is_last
        return is_last

    def _end_if_cut(self) -> None:
        if self.has_cut:
            raise ConnectionResetError("the process that asks is no more")

    def configuration(self) -> Configuration:
        """The API server, over this."""
        return Configuration(host=f"http://127.0.0.1:{self.port}")


@asynccontextmanager
async def cutting_proxy(kubeconfig: Path) -> AsyncIterator[CuttingProxy]:
    """A proxy with the kubeconfig's rights while inside."""
    real = await load_configuration({}, kubeconfig=kubeconfig)
    context = ssl.create_default_context(cafile=real.ssl_ca_cert)
    context.load_cert_chain(real.cert_file, real.key_file)
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    limits = aiohttp.ClientTimeout(total=None, connect=5.0)
    async with aiohttp.ClientSession(
        real.host, connector=connector, timeout=limits, auto_decompress=False
    ) as session:
        proxy = CuttingProxy(session)
        runner = web.ServerRunner(web.Server(proxy.carry), shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            proxy.port = int(runner.addresses[0][1])
            yield proxy
        finally:
            await runner.cleanup()
