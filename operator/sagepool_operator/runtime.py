"""The running operator, put together: cache, queue, workers, prober. Knows nothing of kopf."""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import httpx

from sagepool_crds.meta import PoolKey
from sagepool_kube.api import KubeApi
from sagepool_operator.cache import ReflectedCache
from sagepool_operator.config import Settings
from sagepool_operator.errors import OperatorError
from sagepool_operator.events import Recorder
from sagepool_operator.executor import Executor
from sagepool_operator.prober import Prober
from sagepool_operator.queue import WorkQueue
from sagepool_operator.reconciler import Reconciler
from sagepool_operator.routability.tables import RouterTables

_logger: Final = logging.getLogger(__name__)
_MAX_PROBES: Final = 200
_RESYNC_SPREAD: Final = 0.2


def utc_now() -> datetime:
    """The time, for status and events."""
    return datetime.now(UTC)


class Operator:
    """Reconciles every pool from `start` to `stop`. Belongs to one event loop."""

    def __init__(
        self,
        api: KubeApi,
        settings: Settings,
        *,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Take the API server and the settings; nothing runs before `start`.

        `transport` reaches the engines; left out: the network.
        """
        self._api = api
        self._settings = settings
        self._now = now
        self._rng = rng if rng is not None else Random()
        loop = asyncio.get_running_loop()
        self._queue: WorkQueue[PoolKey] = WorkQueue(
            self._reconcile, later=loop.call_later, clock=clock, rng=self._rng
        )
        self._cache = ReflectedCache(api, settings.namespace, self._queue.add, clock)
        self._client = httpx.AsyncClient(
            timeout=settings.probe.timeout_s,
            limits=httpx.Limits(max_connections=_MAX_PROBES, keepalive_expiry=4.0),
            transport=transport,
            trust_env=False,  # engines are in the cluster: no proxy of ours knows them
        )
        self._prober = Prober(self._client, settings.probe, self._queue.add, now=now)
        self._tables = RouterTables(self._client, self._queue.add)
        recorder = Recorder(api, _reporter(), now, lambda: uuid.uuid4().hex[:16])
        executor = Executor(api, self._cache, recorder.record)
        self._reconciler = Reconciler(
            self._cache, api, executor, self._prober, self._tables, settings.images, now
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._is_synced = False
        self._last_success: datetime | None = None
        self.failed = asyncio.Event()
        """Set when a part of it has ended that should have run on: the process has to end."""

    def start(self) -> None:
        """Begin. Returns at once; the first reconcile waits until everything has been listed."""
        self._spawn("follow the API server", self._cache.run())
        self._spawn("reconcile", self._work())

    async def stop(self) -> None:
        """End all work within moments. A reconcile that is cut short is planned again next time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._queue.close()
        await self._prober.close()
        await self._tables.close()
        await self._client.aclose()

    def wake(self, key: PoolKey) -> None:
        """Look at a pool soon."""
        self._queue.add(key)

    def health(self) -> Mapping[str, Any]:
        """For the liveness probe and for people.

        Raises:
            OperatorError: a part of the operator has ended; it has to be started again.
        """
        if self.failed.is_set():
            raise OperatorError("a part of the operator has ended: its log says why")
        last = self._last_success
        return {
            "synced": self._is_synced,
            "queueDepth": self._queue.depth,
            "pools": len(self._cache.keys()),
            "lastSuccessfulReconcile": last.isoformat(timespec="seconds") if last else None,
            "errors": self._cache.errors(),
        }

    async def _reconcile(self, key: PoolKey) -> float | None:
        again_s = await self._reconciler.reconcile(key)
        self._last_success = self._now()
        return again_s

    async def _work(self) -> None:
        await self._cache.wait_until_synced()
        self._is_synced = True
        _logger.info("following all pools", extra={"pools": len(self._cache.keys())})
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._settings.workers):
                tasks.create_task(self._queue.run())
            tasks.create_task(self._resync())

    async def _resync(self) -> None:
        """Look at every pool now and then: a safety net, not how changes are noticed."""
        while True:
            for key in self._cache.keys():  # noqa: SIM118  # not a mapping
                self._queue.add_after(key, self._rng.uniform(0, self._settings.resync_s / 10))
            spread = self._rng.uniform(1 - _RESYNC_SPREAD, 1 + _RESYNC_SPREAD)
            await asyncio.sleep(self._settings.resync_s * spread)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        _logger.critical(
            "a part of the operator has ended",
            extra={"part": task.get_name()},
            exc_info=task.exception(),
        )
        self.failed.set()


def _reporter() -> str:
    """The name of this process in events: the pod's, or the machine's."""
    return os.environ.get("HOSTNAME") or socket.gethostname()
