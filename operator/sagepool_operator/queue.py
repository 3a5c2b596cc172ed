"""Work by key: coalesced, one worker a key, failures retried later and later.

    add ──► ready ──► a worker takes the key ──► done: forgotten, or looked at again after a while
              ▲                                └► failed: again after a growing, jittered wait
              └── added while it was being worked on: once more afterwards

The scheme is that of client-go's workqueue.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from random import Random
from typing import Final, Generic, Protocol, TypeVar

from sagepool_kube.errors import KubeError
from sagepool_operator.errors import OperatorError

_logger: Final = logging.getLogger(__name__)
_FIRST_S: Final = 0.5
_LIMIT_S: Final = 60.0
_MAX_DOUBLINGS: Final = 16

K = TypeVar("K", bound=Hashable)


class Cancellable(Protocol):
    """A call that was put off."""

    def cancel(self) -> None:
        """Do not make it."""
        ...


Later = Callable[[float, Callable[[], None]], Cancellable]
"""Calls something after so many seconds, like `loop.call_later`."""


@dataclass(slots=True)
class _Delayed:
    due_s: float
    call: Cancellable


class WorkQueue(Generic[K]):
    """Calls `work` for every key that was added. Belongs to one event loop."""

    def __init__(
        self,
        work: Callable[[K], Awaitable[float | None]],
        *,
        later: Later,
        clock: Callable[[], float],
        rng: Random,
    ) -> None:
        """Prepare; nothing is worked on before `run`.

        Args:
            work: does what the key needs, and says after how many seconds to do it again though
                nothing has happened (None: not at all). KubeError and OperatorError are logged and
                retried; so is any other error, with its traceback.
            later: puts a call off.
            clock: seconds; what `later` goes by.
            rng: source of jitter.
        """
        self._work = work
        self._later = later
        self._clock = clock
        self._rng = rng
        self._ready: deque[K] = deque()
        self._queued: set[K] = set()
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._delayed: dict[K, _Delayed] = {}
        self._news = asyncio.Event()

    @property
    def depth(self) -> int:
        """Keys that wait for a worker or are being worked on."""
        return len(self._queued) + len(self._running)

    def add(self, key: K) -> None:
        """Work on the key as soon as a worker is free."""
        if key in self._running:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._news.set()

    def add_after(self, key: K, delay_s: float) -> None:
        """Work on the key after a while; of several waits for one key the shortest counts."""
        due_s = self._clock() + delay_s
        old = self._delayed.get(key)
        if old is not None:
            if old.due_s <= due_s:
                return
            old.call.cancel()
        self._delayed[key] = _Delayed(due_s, self._later(delay_s, lambda: self._due(key)))

    async def run(self) -> None:
        """Be one worker, until cancelled. Run several for several keys at a time."""
        while True:
            while not self._ready:
                self._news.clear()
                await self._news.wait()
            await self._process(self._ready.popleft())

    def close(self) -> None:
        """Drop what was put off."""
        for delayed in self._delayed.values():
            delayed.call.cancel()
        self._delayed.clear()

    def _due(self, key: K) -> None:
        del self._delayed[key]
        self.add(key)

    async def _process(self, key: K) -> None:
        self._queued.discard(key)
        self._running.add(key)
        try:
            again_s = await self._work(key)
        except (KubeError, OperatorError) as error:
            self._retry(key, error, None)
        except Exception as error:  # a bug must not stop the other pools
            self._retry(key, error, error)
        else:
            self._failures.pop(key, None)
            if again_s is not None:
                self.add_after(key, again_s)
        finally:
            self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _retry(self, key: K, error: Exception, traceback_of: Exception | None) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        whole = min(_LIMIT_S, _FIRST_S * 2 ** min(failures - 1, _MAX_DOUBLINGS))
        delay_s = whole * self._rng.uniform(0.5, 1.0)
        _logger.warning(
            "could not reconcile, trying again",
            extra={
                "pool": str(key),
                "error": str(error) or type(error).__name__,
                "failures": failures,
                "retry_in_s": round(delay_s, 1),
            },
            exc_info=traceback_of,
        )
        self.add_after(key, delay_s)
