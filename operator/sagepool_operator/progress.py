"""Asks running downloads how far they are."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

from pydantic import TypeAdapter, ValidationError

from sagepool_crds.meta import PoolKey
from sagepool_engines.http import EngineHttp, NotAnsweredError
from sagepool_operator.followed import Filed, Followed
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
        http: EngineHttp,
        wake: Callable[[PoolKey], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take what asks them, and who is told of news."""
        self._http = http
        self._wake = wake
        self._sleep = sleep
        self._filed: Filed[str, ProgressReport] = Filed()
        self._followed: Followed[ProgressTarget] = Followed(
            lambda pool, target: self._filed.drop(pool, target.uid)
        )

    def reports(self, pool: PoolKey) -> Mapping[str, ProgressReport]:
        """The last answers, by the uid of the download's pod. The mapping never changes, a new one
        takes its place."""
        return self._filed.of(pool)

    def track(self, pool: PoolKey, targets: Iterable[ProgressTarget]) -> None:
        """Ask these downloads of the pool from now on, and no others of it."""
        self._followed.track(pool, {t: partial(self._follow, pool, t) for t in targets})

    async def close(self) -> None:
        """Stop asking."""
        await self._followed.close()

    async def _follow(self, pool: PoolKey, target: ProgressTarget) -> None:
        while True:
            report = await ask_progress(self._http, target.url)
            # One that does not answer has just begun or just ended: its pod will say so.
            if report is not None and report != self._filed.of(pool).get(target.uid):
                self._filed.put(pool, target.uid, report)
                self._wake(pool)
            await self._sleep(PACE_S if report is not None and report.bytes_total else _FIRST_S)


async def ask_progress(http: EngineHttp, url: str) -> ProgressReport | None:
    """How far a download is; None when it does not say."""
    try:
        answer = await http.get(url)
        return _ANSWER.validate_json(answer.body) if answer.status == 200 else None
    except (NotAnsweredError, ValidationError):
        return None
