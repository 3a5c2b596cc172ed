"""Asks every engine how it is, for as long as it is a target."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from sagepool_crds.instance import Endpoint
from sagepool_crds.meta import PoolKey
from sagepool_engines.dialects import EngineLoad
from sagepool_engines.http import EngineHttp
from sagepool_engines.probe import Depth, ProbeResult, choose_depth, probe, select_endpoints
from sagepool_operator.config import ProbeIntervals
from sagepool_operator.followed import Filed, Followed
from sagepool_operator.plan import Target
from sagepool_operator.reports import Report, Reports, TargetKey, advance

_logger: Final = logging.getLogger(__name__)


class Prober:
    """Keeps a report for each target and wakes the pool when one says something new."""

    def __init__(
        self,
        http: EngineHttp,
        intervals: ProbeIntervals,
        wake: Callable[[PoolKey], None],
        *,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take what asks engines, the pace, and who is told of news."""
        self._http = http
        self._intervals = intervals
        self._wake = wake
        self._now = now
        self._sleep = sleep
        self._filed: Filed[TargetKey, Report] = Filed()
        self._followed: Followed[TargetKey] = Followed(self._filed.drop)

    def reports(self, pool: PoolKey) -> Reports:
        """Every report of the pool; the mapping never changes, a new one takes its place."""
        return self._filed.of(pool)

    def track(self, pool: PoolKey, targets: Iterable[Target]) -> None:
        """Probe these targets of the pool from now on, and no others of it."""
        self._followed.track(pool, {t.key: partial(self._follow, pool, t) for t in targets})

    async def close(self) -> None:
        """Stop probing."""
        await self._followed.close()

    async def _follow(self, pool: PoolKey, target: Target) -> None:
        for number in itertools.count():
            old = self._filed.of(pool).get(target.key)
            report = await self._ask(target, old, number)
            self._filed.put(pool, target.key, report)
            if report.says_more_than(old):
                _log_turn(target, old, report)
                self._wake(pool)
            steady = report.is_ready and not report.failures
            await self._sleep(self._intervals.ready_s if steady else self._intervals.starting_s)

    async def _ask(self, target: Target, old: Report | None, number: int) -> Report:
        depth = choose_depth(
            was_ready=old is not None and old.is_ready,
            has_failed=old is not None and old.failures > 0,
            number=number,
        )
        result = await self._probe_all(target, depth)
        # A process that is gone is nothing to be patient with.
        tolerance = 1 if result.is_refused else self._intervals.failures
        return advance(old, result, self._now(), tolerance)

    async def _probe_all(self, target: Target, depth: Depth) -> ProbeResult:
        """The first endpoint that is not ready speaks for the instance, else all of them do."""
        endpoints = select_endpoints(target.endpoints, depth)
        results: list[ProbeResult] = []
        for endpoint in endpoints:
            result = await probe(self._http, target.engine, endpoint, depth)
            if not result.is_ready:
                return result
            results.append(result)
        return _join(endpoints, results)


def _join(endpoints: Sequence[Endpoint], results: Sequence[ProbeResult]) -> ProbeResult:
    """What the ready endpoints of an instance say together; each address has a load of its own."""
    loads = {e.url: r.load for e, r in zip(endpoints, results, strict=True) if r.load is not None}
    lengths = {e.role: r.max_model_len for e, r in zip(endpoints, results, strict=True)}
    return ProbeResult(
        "EngineReady",
        max_model_len=lengths.get("llm") or lengths.get("embedding"),
        space=next((r.space for r in results if r.space is not None), None),
        load=_add_loads(list(loads.values())),
    )


def _add_loads(loads: Sequence[EngineLoad]) -> EngineLoad | None:
    if not loads:
        return None
    return EngineLoad(
        running=sum(load.running for load in loads),
        waiting=sum(load.waiting for load in loads),
        kv_cache_usage=max(load.kv_cache_usage for load in loads),
    )


def _log_turn(target: Target, old: Report | None, new: Report) -> None:
    if old is None or old.verdict != new.verdict:
        _logger.info(
            "an engine has turned",
            extra={
                "instance": f"{target.namespace}/{target.instance}",
                "verdict": new.verdict,
                "error": new.message,
            },
        )
