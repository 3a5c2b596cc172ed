"""Asks engines over the request path's own kind of connection (an EngineHttp).

A client library would be a third of what a router needs to start, for calls as plain as these. A
connection serves one call: between two probes engines close theirs.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from sagepool_engines.http import (
    AT_A_TIME,
    MAX_BODY_BYTES,
    Answer,
    NotAnsweredError,
    describe_refusal,
)
from sagepool_router.upstream import CoarseClock, IdlePool, UpstreamConnection

_TIMEOUT_S: Final = 3.0
_MAX_HEAD_BYTES: Final = 64 << 10


class EngineConnections:
    """Asks engines, no more than some at a time. Belongs to one event loop.

    Args:
        timeout_s: limit of each call, from the moment when its turn has come.
    """

    def __init__(self, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(AT_A_TIME)
        self._tls: ssl.SSLContext | None = None
        self._pool = IdlePool(CoarseClock(), 0.0, _MAX_HEAD_BYTES)
        self._pool.close()  # it keeps no connection

    async def get(self, url: str) -> Answer:
        """Ask for a page; redirects are not followed."""
        return await self._ask("GET", url, b"", self._timeout_s)

    async def post(
        self, url: str, body: Mapping[str, Any], *, limit_s: float | None = None
    ) -> Answer:
        """Send a JSON object."""
        return await self._ask("POST", url, json.dumps(body).encode(), limit_s or self._timeout_s)

    async def _ask(self, method: str, url: str, body: bytes, limit_s: float) -> Answer:
        async with self._turns:
            try:
                async with asyncio.timeout(limit_s):
                    return await self._exchange(method, url, body)
            except TimeoutError as error:
                raise NotAnsweredError("no answer in time", is_late=True) from error
            except ValueError as error:  # the address is no such
                raise NotAnsweredError(str(error)) from error

    async def _exchange(self, method: str, url: str, body: bytes) -> Answer:
        address = urlsplit(url)
        if address.hostname is None:
            raise NotAnsweredError("the address has no host")
        is_tls = address.scheme == "https"
        port = address.port or (443 if is_tls else 80)
        head = (
            f"{method} {address.path or '/'} HTTP/1.1\r\n"
            f"host: {address.netloc.rpartition('@')[2]}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode("ascii")
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: UpstreamConnection(self._pool),
                address.hostname,
                port,
                ssl=self._tls_context() if is_tls else None,
            )
        except OSError as error:
            raise NotAnsweredError(describe_refusal(error), is_refused=True) from error
        reading = _Reading(connection)
        try:
            connection.send(reading, head, body)
            return await reading.answer
        finally:
            connection.transport.abort()

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


class _Reading:
    """An answer that comes (an AnswerSink)."""

    def __init__(self, connection: UpstreamConnection) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._body = bytearray()

    def begin(self, connection: UpstreamConnection) -> None:
        """The head has come: its status is on the connection."""

    def receive(self, data: bytes) -> None:
        """Keep a part of the body."""
        self._body += data
        if len(self._body) > MAX_BODY_BYTES:
            self._connection.abandon()
            self.engine_failed(f"its answer is longer than {MAX_BODY_BYTES >> 20} MiB")

    def finish(self) -> None:
        """All of it has come."""
        if not self.answer.done():
            self.answer.set_result(Answer(self._connection.status, bytes(self._body)))

    def engine_failed(self, reason: str) -> None:
        """There will be no answer."""
        if not self.answer.done():
            self.answer.set_exception(NotAnsweredError(reason))

    def connection_was_stale(self) -> None:
        """Not with a connection that is new; said all the same."""
        self.engine_failed("the engine closed the connection")
