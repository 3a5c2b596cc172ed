"""Asks routers what their groups are wanted for, decides, and wakes the pool that has to change.

A pool is looked at every second and reconciled only when a decision differs from what its
Deployments ask for: a settled pool costs one small request a router and no write.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sagepool_crds.meta import PoolKey
from sagepool_engines.http import EngineHttp, NotAnsweredError
from sagepool_operator.autoscaling.decision import (
    WARM_AFTER_S,
    Decision,
    Engines,
    Window,
    decide,
)
from sagepool_operator.autoscaling.demand import Demand, FirstBytes, add, slowest_tenth_s
from sagepool_operator.autoscaling.scene import ScaledGroup, Scene
from sagepool_operator.router_pods import RouterPod

_logger: Final = logging.getLogger(__name__)
_INTERVAL_S: Final = 1.0
_SILENT_LOOKS: Final = 10
"""In a row, before people are told."""


class _FirstBytes(BaseModel):
    model_config = ConfigDict(extra="ignore")

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = (0,)

    @model_validator(mode="after")
    def _check_lengths(self) -> "_FirstBytes":
        if len(self.counts) != len(self.bounds) + 1:
            raise ValueError("a count for each bound, and one for what lies above them")
        return self


class _Group(BaseModel):
    """A group in a router's report; fields of a later router are none of ours."""

    model_config = ConfigDict(extra="ignore")

    group: str
    in_flight: int
    capacity: int
    queued_requests: int
    queued_texts: int
    idle_seconds: float
    unmet_seconds: float | None = None
    first_bytes: _FirstBytes = Field(default_factory=_FirstBytes)

    def to_demand(self) -> Demand:
        """What this router alone knows."""
        return Demand(
            in_flight=self.in_flight,
            capacity=self.capacity,
            queued_requests=self.queued_requests,
            queued_texts=self.queued_texts,
            idle_s=self.idle_seconds,
            unmet_s=self.unmet_seconds,
        )


class _Report(BaseModel):
    model_config = ConfigDict(extra="ignore")

    groups: tuple[_Group, ...]


@dataclass
class _Followed:
    """A pool and what is known of it between two looks."""

    scene: Scene
    task: asyncio.Task[None] | None = None
    windows: dict[str, Window] = field(default_factory=dict)
    first_bytes: dict[tuple[str, str], FirstBytes] = field(default_factory=dict)
    """By router and group."""
    decisions: dict[str, Decision] = field(default_factory=dict)
    silent: dict[str, int] = field(default_factory=dict)
    """Routers that did not report the last time, and how often in a row they have not."""


class Autoscaler:
    """Keeps a decision for each group whose number of engines is not what it should be.

    Args:
        http: asks the routers.
        wake: called with a pool that has to be reconciled.
        now: the time, as conditions tell it.
        clock: seconds, monotonic.
        sleep: passes the time between two looks.
    """

    def __init__(
        self,
        http: EngineHttp,
        wake: Callable[[PoolKey], None],
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._wake = wake
        self._now = now
        self._clock = clock
        self._sleep = sleep
        self._pools: dict[PoolKey, _Followed] = {}

    def decisions(self, pool: PoolKey) -> Mapping[str, Decision]:
        """What is decided and not yet done, by group."""
        followed = self._pools.get(pool)
        return dict(followed.decisions) if followed is not None else {}

    def follow(self, pool: PoolKey, scene: Scene | None) -> None:
        """Look at the pool as it is now; None: not any more."""
        followed = self._pools.get(pool)
        if scene is None:
            if followed is not None and followed.task is not None:
                followed.task.cancel()
            self._pools.pop(pool, None)
            return
        if followed is None:
            followed = self._pools[pool] = _Followed(scene)
            followed.task = asyncio.create_task(self._look(pool, followed), name=f"scale {pool}")
        followed.scene = scene
        wanted = {group.name: group.wanted for group in scene.groups}
        followed.windows = {n: w for n, w in followed.windows.items() if n in wanted}
        # What is done is no decision any more: a person may scale a Deployment by hand.
        followed.decisions = {
            name: decision
            for name, decision in followed.decisions.items()
            if wanted.get(name, decision.replicas) != decision.replicas
        }

    async def close(self) -> None:
        """Stop asking."""
        tasks = [f.task for f in self._pools.values() if f.task is not None]
        self._pools.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, pool: PoolKey, followed: _Followed) -> None:
        while True:
            routers = followed.scene.routers
            try:
                reports = await asyncio.gather(*(self._ask(router) for router in routers))
                self._note_silent(pool, followed, routers, reports)
                self._judge(pool, followed, routers, reports)
            except Exception:  # a bug must not leave the pool as it is for ever
                _logger.exception("could not judge what is asked", extra={"pool": str(pool)})
            await self._sleep(_INTERVAL_S)

    async def _ask(self, router: RouterPod) -> _Report | None:
        try:
            answer = await self._http.get(f"{router.url}/admin/demand")
            return _Report.model_validate_json(answer.body) if answer.status == 200 else None
        except (NotAnsweredError, ValidationError):
            return None

    def _note_silent(
        self,
        pool: PoolKey,
        followed: _Followed,
        routers: Sequence[RouterPod],
        reports: Sequence[_Report | None],
    ) -> None:
        followed.silent = {
            router.url: followed.silent.get(router.url, 0) + 1
            for router, said in zip(routers, reports, strict=True)
            if said is None
        }
        # One that has just been started or is about to go is silent for moments.
        lost = [url for url, looks in followed.silent.items() if looks == _SILENT_LOOKS]
        if lost:
            _logger.warning(
                "routers do not report: nothing is scaled down until they do",
                extra={"pool": str(pool), "routers": lost},
            )
        known = {(r.uid, group.name) for r in routers for group in followed.scene.groups}
        followed.first_bytes = {k: v for k, v in followed.first_bytes.items() if k in known}

    def _judge(
        self,
        pool: PoolKey,
        followed: _Followed,
        routers: Sequence[RouterPod],
        reports: Sequence[_Report | None],
    ) -> None:
        """Decide for each group, and wake the pool when one has to change."""
        is_news = False
        for group in followed.scene.groups:
            demand = self._add(followed, group.name, routers, reports)
            window = followed.windows.setdefault(group.name, Window())
            engines = _engines(group, self._now())
            decision = decide(group.scaling, engines, demand, window, self._clock())
            if decision.replicas == group.wanted:
                followed.decisions.pop(group.name, None)
                continue
            before = followed.decisions.get(group.name)
            followed.decisions[group.name] = decision
            if before is None or before.replicas != decision.replicas:
                is_news = True
                _logger.info(
                    "a group is to be scaled",
                    extra={
                        "pool": str(pool),
                        "group": group.name,
                        "engines": group.wanted,
                        "to": decision.replicas,
                        "reason": decision.reason,
                    },
                )
        if is_news:
            self._wake(pool)

    def _add(
        self,
        followed: _Followed,
        group: str,
        routers: Sequence[RouterPod],
        reports: Sequence[_Report | None],
    ) -> Demand:
        """What the routers together know of a group."""
        known: list[Demand] = []
        bounds: tuple[float, ...] = ()
        counts: list[int] = []
        for router, report in zip(routers, reports, strict=True):
            said = next((g for g in report.groups if g.group == group), None) if report else None
            if said is None:
                continue
            known.append(said.to_demand())
            histogram = followed.first_bytes.setdefault((router.uid, group), FirstBytes())
            recent = histogram.note(self._clock(), said.first_bytes.counts)
            if not counts:
                bounds, counts = said.first_bytes.bounds, [*recent]
            elif bounds == said.first_bytes.bounds:
                counts = [a + b for a, b in zip(counts, recent, strict=True)]
        ttft_s = slowest_tenth_s(bounds, counts)
        return add(known, ttft_s, is_whole=len(known) == len(routers))


def _engines(group: ScaledGroup, now: datetime) -> Engines:
    since = now - timedelta(seconds=WARM_AFTER_S)
    warm = sum(at <= since for at in group.ready_since)
    return Engines(group.wanted, len(group.ready_since), warm)
