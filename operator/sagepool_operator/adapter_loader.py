"""Loads LoRA adapters on engines and unloads them, until each engine has those that it should."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

from sagepool_crds.meta import PoolKey
from sagepool_engines.adapters import AdapterError, list_adapters, load_adapter, unload_adapter
from sagepool_engines.http import EngineHttp
from sagepool_operator.followed import Filed, Followed
from sagepool_operator.plan import AdapterTarget
from sagepool_operator.reports import AdapterReport, TargetKey

_logger: Final = logging.getLogger(__name__)

STEADY_S: Final = 15.0
"""Between two looks at an engine that has what it should."""
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0
LOAD_LIMIT_S: Final = 300.0
"""For one adapter, its way from the hub included."""
_AT_ONCE: Final = 32
"""Adapters on their way at a time, over all engines."""


class AdapterLoader:
    """Keeps a report for each engine and wakes its pool when it says something new.

    What an engine has is asked of it, never remembered: an adapter that it has lost is loaded
    again, one that nobody wants is unloaded, whoever loaded it.
    """

    def __init__(
        self,
        http: EngineHttp,
        wake: Callable[[PoolKey], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take what asks engines, and who is told of news."""
        self._http = http
        self._wake = wake
        self._sleep = sleep
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._filed: Filed[TargetKey, AdapterReport] = Filed()
        self._followed: Followed[AdapterTarget] = Followed(
            lambda pool, target: self._filed.drop(pool, target.key)
        )

    def reports(self, pool: PoolKey) -> Mapping[TargetKey, AdapterReport]:
        """Every report of the pool; the mapping never changes, a new one takes its place."""
        return self._filed.of(pool)

    def track(self, pool: PoolKey, targets: Iterable[AdapterTarget]) -> None:
        """See to these engines of the pool from now on, and to no others of it."""
        self._followed.track(pool, {t: partial(self._follow, pool, t) for t in targets})

    async def close(self) -> None:
        """Stop. What is on its way may arrive or not; whoever leads next asks the engine."""
        await self._followed.close()

    async def _follow(self, pool: PoolKey, target: AdapterTarget) -> None:
        failures = 0
        while True:
            is_settled = await self._settle(pool, target)
            failures = 0 if is_settled else failures + 1
            await self._sleep(_pause_s(failures))

    async def _settle(self, pool: PoolKey, target: AdapterTarget) -> bool:
        """Bring the engine to what it should have; False if something failed."""
        try:
            present = await list_adapters(self._http, target.engine, target.url)
        except AdapterError:
            return False  # the prober tells of an engine that does not answer
        wanted = dict(target.wanted)
        old = self._filed.of(pool).get(target.key, AdapterReport())
        surplus = present.keys() - wanted.keys()
        missing = {name for name in wanted if present.get(name) != wanted[name]}
        report = AdapterReport(
            frozenset(present.keys() & wanted.keys()),
            tuple((name, words) for name, words in old.errors if name in surplus | missing),
        )
        self._tell(pool, target, report)
        for name in sorted(surplus):
            call = unload_adapter(self._http, target.url, name)
            report = report.after(name, await self._try(target, name, call), is_loaded=False)
            self._tell(pool, target, report)
        for name in (name for name in wanted if name in missing):
            call = load_adapter(
                self._http,
                target.url,
                name,
                wanted[name],
                in_place=name in present,
                limit_s=LOAD_LIMIT_S,
            )
            report = report.after(name, await self._try(target, name, call), is_loaded=True)
            self._tell(pool, target, report)
        return not report.errors

    async def _try(self, target: AdapterTarget, name: str, call: Awaitable[None]) -> str:
        """Why it failed, in words; empty when it did not."""
        async with self._room:
            try:
                await call
            except AdapterError as error:
                words = str(error)
            else:
                words = ""
        _logger.info(
            "an adapter was loaded or unloaded" if not words else "an adapter failed",
            extra={"instance": "/".join(target.key[:2]), "adapter": name, "error": words},
        )
        return words

    def _tell(self, pool: PoolKey, target: AdapterTarget, report: AdapterReport) -> None:
        if report != self._filed.of(pool).get(target.key):
            self._filed.put(pool, target.key, report)
            self._wake(pool)


def _pause_s(failures: int) -> float:
    if not failures:
        return STEADY_S
    return float(min(FIRST_RETRY_S * 2 ** (failures - 1), LAST_RETRY_S))
