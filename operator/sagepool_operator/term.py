"""One term of work, made anew each time this operator begins to lead.

Queue, workers, probers and autoscaler.
"""

import asyncio
import uuid
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Final

import httpx

from sagepool_crds.meta import PoolKey
from sagepool_engines.http import EngineHttp
from sagepool_kube.api import ObjectApi
from sagepool_operator.adapter_loader import AdapterLoader
from sagepool_operator.autoscaling.autoscaler import Autoscaler
from sagepool_operator.cache import ReflectedCache
from sagepool_operator.config import Settings
from sagepool_operator.events import Recorder
from sagepool_operator.executor import Executor
from sagepool_operator.hub import HubReader
from sagepool_operator.prober import Prober
from sagepool_operator.progress import ProgressReader
from sagepool_operator.providers import ProviderProber
from sagepool_operator.queue import WorkQueue
from sagepool_operator.reconciler import Probers, Reconciler
from sagepool_operator.routability.tables import RouterTables

_RESYNC_SPREAD: Final = 0.2


class Term:
    """Reconciles every pool while `run` runs. Belongs to one event loop."""

    def __init__(
        self,
        api: ObjectApi,
        cache: ReflectedCache,
        client: httpx.AsyncClient,
        engines: EngineHttp,
        own: EngineHttp,
        settings: Settings,
        *,
        reporter: str,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        rng: Random,
    ) -> None:
        """Take the API server, a cache that has been filled, and what asks the world.

        `client` asks providers and the hub, `engines` engines, `own` routers and downloads.
        `reporter` is the name of this process in events.
        """
        self._cache = cache
        self._settings = settings
        self._now = now
        self._rng = rng
        loop = asyncio.get_running_loop()
        self._queue: WorkQueue[PoolKey] = WorkQueue(
            self._reconcile, later=loop.call_later, clock=clock, rng=rng
        )
        self._prober = Prober(engines, settings.probe, self._queue.add, now=now)
        self._providers = ProviderProber(client, settings.probe, self._queue.add)
        recorder = Recorder(api, reporter, now, lambda: uuid.uuid4().hex[:16])
        executor = Executor(api, cache, recorder.record)
        self._hub = HubReader(client, settings.hub, self._queue.add)
        self._tables = RouterTables(own, self._queue.add)
        self._scaler = Autoscaler(own, self._queue.add, now=now, clock=clock)
        self._downloads = ProgressReader(own, self._queue.add)
        self._adapters = AdapterLoader(engines, self._queue.add)
        probers = Probers(
            self._prober,
            self._providers,
            self._hub,
            self._tables,
            self._scaler,
            self._downloads,
            self._adapters,
        )
        self._reconciler = Reconciler(cache, api, executor, probers, settings.images, now)
        self.last_success: datetime | None = None
        """When a pool was last reconciled."""

    @property
    def queue_depth(self) -> int:
        """Pools that wait for a worker or are being worked on."""
        return self._queue.depth

    def wake(self, key: PoolKey) -> None:
        """Look at a pool soon."""
        self._queue.add(key)

    async def run(self) -> None:
        """Work until cancelled. What is cut short is planned again in the next term."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._settings.workers):
                    tasks.create_task(self._queue.run())
                tasks.create_task(self._resync())
        finally:
            self._queue.close()
            await self._prober.close()
            await self._providers.close()
            await self._hub.close()
            await self._tables.close()
            await self._scaler.close()
            await self._downloads.close()
            await self._adapters.close()

    async def _reconcile(self, key: PoolKey) -> float | None:
        again_s = await self._reconciler.reconcile(key)
        self.last_success = self._now()
        return again_s

    async def _resync(self) -> None:
        """Look at every pool at once, and then now and then: a safety net, not how changes are
        noticed."""
        spread_s = 0.0
        while True:
            for key in self._cache.keys():  # noqa: SIM118  # not a mapping
                self._queue.add_after(key, self._rng.uniform(0, spread_s))
            spread_s = self._settings.resync_s / 10
            spread = self._rng.uniform(1 - _RESYNC_SPREAD, 1 + _RESYNC_SPREAD)
            await asyncio.sleep(self._settings.resync_s * spread)
