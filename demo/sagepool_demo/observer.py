"""Watches the pool and its instances, tells what changes, and waits until something is so."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sagepool_crds import names
from sagepool_demo.cluster import Kubernetes
from sagepool_demo.errors import TookTooLong
from sagepool_demo.screen import Screen
from sagepool_demo.world import World, describe_changes

_KINDS = tuple(f"{plural}.{names.GROUP}" for plural in (names.POOL_PLURAL, names.INSTANCE_PLURAL))


class Observer:
    """The world as the API server tells it."""

    def __init__(self, cluster: Kubernetes, screen: Screen, pool: str) -> None:
        """Nothing is watched yet: see `observe`."""
        self._cluster = cluster
        self._screen = screen
        self._changed = asyncio.Condition()
        self.world = World(pool)

    async def until(self, holds: Callable[[World], bool], what: str, limit_s: float) -> None:
        """Return when `holds(world)`.

        Raises:
            TookTooLong: it does not within `limit_s` seconds; says `what` and how things are.
        """
        try:
            async with asyncio.timeout(limit_s), self._changed:
                await self._changed.wait_for(lambda: holds(self.world))
        except TimeoutError as error:
            now = "; ".join(describe_changes(World(self.world.name), self.world))
            raise TookTooLong(
                f"{what}: not within {limit_s:g} s, but {now or 'nothing'}"
            ) from error

    async def _follow(self, resource: str) -> None:
        while True:  # a watch ends after some time, as watches do: the next begins with all objects
            async for change, manifest in self._cluster.watch(resource):
                before = self.world
                self.world = before.after(change, manifest)
                for line in describe_changes(before, self.world):
                    self._screen.say(line)
                async with self._changed:
                    self._changed.notify_all()


@asynccontextmanager
async def observe(cluster: Kubernetes, screen: Screen, pool: str) -> AsyncIterator[Observer]:
    """An observer that watches while inside."""
    observer = Observer(cluster, screen, pool)
    async with asyncio.TaskGroup() as tasks:
        watches = [tasks.create_task(observer._follow(kind)) for kind in _KINDS]
        yield observer
        for watch in watches:
            watch.cancel()
