"""Asks engines, and programs of ours, over aiohttp (an EngineHttp).

Its cost of a call does not grow with the number of engines. httpx looks at every open connection
for every call: 3 ms of CPU a call with few engines and 25 ms with a thousand, where aiohttp takes
0.25 ms with either (`docs/decisions/0027-probes-of-many-engines.md`).
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from sagepool_engines.http import (
    AT_A_TIME,
    MAX_BODY_BYTES,
    Answer,
    NotAnsweredError,
    describe_refusal,
)

_KEEP_ALIVE_S: Final = 4.0
"""For an idle connection; below vLLM's own limit of 5 s."""


class EngineSession:
    """Asks engines over the network, no more than some at a time. Belongs to one event loop.

    No proxy of the environment is used: those are for the world outside. Certificates are those
    that the system trusts.

    Args:
        timeout_s: limit of each call, from the moment when its turn has come.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(AT_A_TIME)
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str) -> Answer:
        """Ask for a page."""
        return await self._ask("GET", url, None, self._timeout_s)

    async def post(
        self, url: str, body: Mapping[str, Any], *, limit_s: float | None = None
    ) -> Answer:
        """Send a JSON object."""
        return await self._ask("POST", url, body, limit_s or self._timeout_s)

    async def aclose(self) -> None:
        """Close all connections; the next call opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(
        self, method: str, url: str, body: Mapping[str, Any] | None, limit_s: float
    ) -> Answer:
        async with self._turns:
            try:
                async with (
                    asyncio.timeout(limit_s),
                    self._open().request(method, url, json=body, allow_redirects=False) as response,
                ):
                    return Answer(response.status, await _read(response))
            except TimeoutError as error:
                raise NotAnsweredError("no answer in time", is_late=True) from error
            except aiohttp.ClientConnectorError as error:
                why = describe_refusal(error.os_error)
                raise NotAnsweredError(why, is_refused=True) from error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                # ValueError: the address is no such
                raise NotAnsweredError(str(error) or type(error).__name__) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, if it has an end within the limit."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > MAX_BODY_BYTES:
            response.close()
            raise NotAnsweredError(f"its answer is longer than {MAX_BODY_BYTES >> 20} MiB")
    return bytes(body)
