"""What is followed for pools, a task each: a task ends when its pool wants the thing no more."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

from sagepool_crds.meta import PoolKey

K = TypeVar("K", bound=Hashable)

Follow: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Follows one thing until cancelled, or until there is no more to find out."""


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
