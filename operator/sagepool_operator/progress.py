"""Asks running downloads how far they are."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import httpx
from pydantic import TypeAdapter, ValidationError

from sagepool_crds.meta import PoolKey
from sagepool_operator.followed import Followed
from sagepool_operator.plan import ProgressTarget
from sagepool_operator.reports import ProgressReport

PACE_S: Final = 10.0
"""Each answer becomes a write of the pool's status: not more often than a load does."""
_FIRST_S: Final = 1.0
"""Until the size is known."""
_ANSWER: Final = TypeAdapter(ProgressReport)


class ProgressReader:
    """Keeps the last answer of each download and wakes the pool when it is another one."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        wake: Callable[[PoolKey], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take a client (its time-out bounds each call), and who is told of news."""
        self._client = client
        self._wake = wake
        self._sleep = sleep
        self._followed: Followed[ProgressTarget] = Followed(lambda _, t: self._file(t.uid, None))
        self._reports: Mapping[str, ProgressReport] = MappingProxyType({})

    @property
    def reports(self) -> Mapping[str, ProgressReport]:
        """The last answers, by the uid of the download's pod. The mapping never changes, a new one
        takes its place."""
        return self._reports

    def track(self, pool: PoolKey, targets: Iterable[ProgressTarget]) -> None:
        """Ask these downloads of the pool from now on, and no others of it."""
        self._followed.track(pool, {t: partial(self._follow, pool, t) for t in targets})

    async def close(self) -> None:
        """Stop asking."""
        await self._followed.close()

    async def _follow(self, pool: PoolKey, target: ProgressTarget) -> None:
        while True:
            report = await ask_progress(self._client, target.url)
            # One that does not answer has just begun or just ended: its pod will say so.
            if report is not None and report != self._reports.get(target.uid):
                self._file(target.uid, report)
                self._wake(pool)
            await self._sleep(PACE_S if report is not None and report.bytes_total else _FIRST_S)

    def _file(self, uid: str, report: ProgressReport | None) -> None:
        reports = {k: r for k, r in self._reports.items() if k != uid}
        if report is not None:
            reports[uid] = report
        self._reports = MappingProxyType(reports)


async def ask_progress(client: httpx.AsyncClient, url: str) -> ProgressReport | None:
    """How far a download is; None when it does not say."""
    try:
        answer = await client.get(url)
        answer.raise_for_status()
        return _ANSWER.validate_json(answer.content)
    except (httpx.HTTPError, ValidationError):
        return None
