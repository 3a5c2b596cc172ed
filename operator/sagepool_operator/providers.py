"""Asks every pool's cloud provider whether it can be reached, for as long as requests may go there.

The provider's key is in a Secret, which the operator never reads. So it is asked without one, and
any answer but a server error counts, a refusal too: this tells of name, network, certificate and
service. Whether the key is taken, routers find out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import httpx

from sagepool_crds.meta import PoolKey
from sagepool_operator.config import ProbeIntervals
from sagepool_operator.followed import Followed
from sagepool_operator.reports import ProviderReport, advance_provider

_logger: Final = logging.getLogger(__name__)
_RETRIES: Final = 6
"""While it fails it is asked so many times as often."""


class ProviderProber:
    """Keeps a report for each pool with a provider and wakes the pool when it turns."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        intervals: ProbeIntervals,
        wake: Callable[[PoolKey], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take a client (its time-out bounds each call), the pace, and who is told of news."""
        self._client = client
        self._intervals = intervals
        self._wake = wake
        self._sleep = sleep
        self._reports: dict[PoolKey, ProviderReport] = {}
        self._followed: Followed[str] = Followed(lambda pool, _: self._forget(pool))

    def report(self, pool: PoolKey) -> ProviderReport | None:
        """What asking has shown; None before the first answer."""
        return self._reports.get(pool)

    def track(self, pool: PoolKey, base_url: str) -> None:
        """Ask this provider for the pool from now on, and no other; empty: none."""
        wanted = {base_url: partial(self._follow, pool, base_url)} if base_url else {}
        self._followed.track(pool, wanted)

    async def close(self) -> None:
        """Stop asking."""
        await self._followed.close()

    async def _follow(self, pool: PoolKey, base_url: str) -> None:
        while True:
            old = self._reports.get(pool)
            error = await ask_provider(self._client, base_url)
            report = advance_provider(old, base_url, error, self._intervals.failures)
            self._reports[pool] = report
            if old is None or old.error != report.error:
                _logger.info(
                    "a provider has turned",
                    extra={"pool": str(pool), "provider": base_url, "error": report.error},
                )
                self._wake(pool)
            pace_s = self._intervals.provider_s
            await self._sleep(pace_s / _RETRIES if report.failures else pace_s)

    def _forget(self, pool: PoolKey) -> None:
        self._reports.pop(pool, None)


async def ask_provider(client: httpx.AsyncClient, base_url: str) -> str:
    """Why no request can be sent there, in words; empty when one can."""
    try:
        # Its list of models is what every provider has, and costs nothing; it may be long.
        async with client.stream("GET", f"{base_url.rstrip('/')}/models") as answer:
            return f"it answers {answer.status_code}" if answer.status_code >= 500 else ""
    except httpx.TimeoutException:
        return "it does not answer in time"
    except httpx.HTTPError as error:
        return f"it cannot be reached ({str(error) or type(error).__name__})"
