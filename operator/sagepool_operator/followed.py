"""What is followed for pools, a task each: a task ends when its pool wants the thing no more.

What has been found is filed by pool: a change costs as much as its pool is large, however many
there are.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, TypeAlias, TypeVar

from sagepool_crds.meta import PoolKey

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

Follow: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Follows one thing until cancelled, or until there is no more to find out."""


_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class Filed(Generic[K, R]):
    """The last report of each thing, by pool."""

    def __init__(self) -> None:
        self._reports: dict[PoolKey, Mapping[K, R]] = {}

    def of(self, pool: PoolKey) -> Mapping[K, R]:
        """A pool's reports. The mapping never changes, a new one takes its place."""
        return self._reports.get(pool, _NOTHING)

    def put(self, pool: PoolKey, key: K, report: R) -> None:
        """File a report in the place of the last one."""
        self._reports[pool] = MappingProxyType({**self.of(pool), key: report})

    def drop(self, pool: PoolKey, key: K) -> None:
        """Forget the report of a thing."""
        left = {k: r for k, r in self.of(pool).items() if k != key}
        self._reports.pop(pool, None)
        if left:
            self._reports[pool] = MappingProxyType(left)


class Followed(Generic[K]):
    """The things that are being followed, by pool. Belongs to one event loop."""

    def __init__(self, dropped: Callable[[PoolKey, K], None]) -> None:
        """Take who is told of a thing that is followed no more."""
        self._dropped = dropped
        self._tasks: dict[PoolKey, dict[K, asyncio.Task[None]]] = {}

    def track(self, pool: PoolKey, wanted: Mapping[K, Follow]) -> None:
        """Follow these things for the pool from now on, and no others of it."""
        tasks = self._tasks.setdefault(pool, {})
        for key in tasks.keys() - wanted.keys():
            tasks.pop(key).cancel()
            self._dropped(pool, key)
        for key in wanted.keys() - tasks.keys():
            tasks[key] = asyncio.create_task(wanted[key](), name=f"follow {key} for {pool}")
        if not tasks:
            del self._tasks[pool]

    async def close(self) -> None:
        """Follow nothing any more."""
        tasks = [task for group in self._tasks.values() for task in group.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
