"""Short calls to many engines: what a probe needs of HTTP, and how it is done.

aiohttp, because its cost of a call does not grow with the number of engines. httpx looks at every
open connection for every call: 3 ms of CPU a call with few engines and 25 ms with a thousand, where
aiohttp takes 0.25 ms with either (`docs/decisions/0027-probes-over-aiohttp.md`).
"""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

import aiohttp

_MAX_BODY_BYTES: Final = 8 << 20
"""A long page of metrics has some hundred KB."""
_AT_A_TIME: Final = 200
"""Calls under way; many, because an engine that hangs keeps its turn until the time is over."""
_KEEP_ALIVE_S: Final = 4.0
"""For an idle connection; below vLLM's own limit of 5 s."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An engine's answer, whole."""

    status: int
    body: bytes


class NotAnsweredError(Exception):
    """There is no answer; the message says why."""

    def __init__(self, message: str, *, is_refused: bool = False, is_late: bool = False) -> None:
        super().__init__(message)
        self.is_refused = is_refused
        """No connection could be made: nothing listens there."""
        self.is_late = is_late
        """The time for it has run out."""


class EngineHttp(Protocol):
    """Asks engines. Both calls have a limit in time and raise NotAnsweredError."""

    async def get(self, url: str) -> Answer:
        """Ask for a page; redirects are not followed."""
        ...

    async def post(self, url: str, body: Mapping[str, Any]) -> Answer:
        """Send a JSON object."""
        ...


class EngineSession:
    """Asks engines over the network, no more than some at a time. Belongs to one event loop.

    No proxy of the environment is used: those are for the world outside. Certificates are those
    that the system trusts.

    Args:
        timeout_s: limit of each call, from the moment when its turn has come.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(_AT_A_TIME)
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str) -> Answer:
        """Ask for a page."""
        return await self._ask("GET", url, None)

    async def post(self, url: str, body: Mapping[str, Any]) -> Answer:
        """Send a JSON object."""
        return await self._ask("POST", url, body)

    async def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        """Nothing is opened before the first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    async def _ask(self, method: str, url: str, body: Mapping[str, Any] | None) -> Answer:
        async with self._turns:
            try:
                async with (
                    asyncio.timeout(self._timeout_s),
                    self._open().request(method, url, json=body, allow_redirects=False) as response,
                ):
                    return Answer(response.status, await _read(response))
            except TimeoutError as error:
                raise NotAnsweredError("no answer in time", is_late=True) from error
            except aiohttp.ClientConnectorError as error:
                raise NotAnsweredError(_describe(error), is_refused=True) from error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                # ValueError: what stands for the answer's compression or the address is no such
                raise NotAnsweredError(str(error) or type(error).__name__) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _describe(error: aiohttp.ClientConnectorError) -> str:
    """In the system's words: the event loop's own name a call of Python's and the address."""
    number = error.os_error.errno
    if number is not None and number > 0:  # those of getaddrinfo are below
        return os.strerror(number)
    return error.strerror or str(error)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, if it has an end within the limit."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            response.close()
            raise NotAnsweredError(f"its answer is longer than {_MAX_BODY_BYTES >> 20} MiB")
    return bytes(body)
