"""The table from the API server: a watch on the pool and one on its instances."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias

from sagepool_crds.instance import InferenceInstance
from sagepool_crds.meta import PoolKey
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import INSTANCES, POOLS, KubeApi
from sagepool_kube.reflector import Reflector
from sagepool_router.sources.objects import Unreadable, read_instance, read_pool
from sagepool_router.sources.publisher import TablePublisher
from sagepool_router.sources.status import SourceStatus

_logger: Final = logging.getLogger(__name__)

_Change: TypeAlias = InferencePool | InferenceInstance | Unreadable | None


class KubernetesSource:
    """Follows one pool; while the API server is away, the last table stays.

    A pool that is deleted or cannot be read any more keeps its last form: its instances come
    and go as the API server says, and `status` tells what is wrong.

    Args:
        api: the API server.
        pool: which pool.
        publisher: takes the tables.
        coalesce_s: after a table, changes of so many seconds become one further table.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        api: KubeApi,
        pool: PoolKey,
        publisher: TablePublisher,
        *,
        coalesce_s: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = pool
        self._publisher = publisher
        self._coalesce_s = coalesce_s
        self._clock = clock
        self._changed = asyncio.Event()
        self._pool: InferencePool | None = None
        """The last one that could be read."""
        self._pools: Reflector[InferencePool | Unreadable] = Reflector(
            api,
            POOLS,
            pool.namespace,
            project=read_pool,
            on_change=self._note,
            field_selector=f"metadata.name={pool.name}",
            clock=clock,
        )
        self._instances: Reflector[InferenceInstance | Unreadable] = Reflector(
            api,
            INSTANCES,
            pool.namespace,
            project=read_instance,
            on_change=self._note,
            field_selector=f"spec.poolRef={pool.name}",
            clock=clock,
        )

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pools.run())
            group.create_task(self._instances.run())
            await self._publish_changes()

    def status(self) -> SourceStatus:
        """How it is doing now."""
        states = (self._pools.health, self._instances.health)
        lost = [health for health in states if not health.is_connected]
        since = min(h.since for h in lost) if lost else max(h.since for h in states)
        return SourceStatus(
            kind="kubernetes",
            target=str(self._key),
            is_connected=not lost,
            lasted_s=self._clock() - since,
            error=lost[0].error if lost else "",
            problems=self._problems(),
        )

    def _problems(self) -> tuple[str, ...]:
        objects = (*self._pools.store.values(), *self._instances.store.values())
        problems = [str(found) for found in objects if isinstance(found, Unreadable)]
        if self._pools.synced.is_set() and not self._pools.store:
            problems.insert(0, f"there is no InferencePool {self._key}: create it")
        return tuple(problems)

    def _note(self, old: _Change, new: _Change) -> None:
        if isinstance(new, Unreadable):
            _logger.warning(
                "object ignored: it does not follow the schema that this router knows",
                extra={"kind": new.kind, "object": new.name, "reason": new.reason},
            )
        self._changed.set()

    async def _publish_changes(self) -> NoReturn:
        await self._pools.synced.wait()
        await self._instances.synced.wait()
        while True:
            self._changed.clear()
            self._publish()
            # The first change of a burst is acted on at once: it may be a drain.
            await asyncio.sleep(self._coalesce_s)
            await self._changed.wait()

    def _publish(self) -> None:
        for found in self._pools.store.values():
            if isinstance(found, InferencePool):
                self._pool = found
        if self._pool is not None:
            instances = self._instances.store.values()
            self._publisher.publish(
                self._pool, [i for i in instances if isinstance(i, InferenceInstance)]
            )
