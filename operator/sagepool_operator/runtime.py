"""The running operator, put together: cache, election, terms of work. Knows nothing of kopf."""

import asyncio
import logging
import os
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import httpx

from sagepool_crds.meta import PoolKey
from sagepool_engines.http import EngineHttp
from sagepool_kube.api import KubeApi, ObjectApi
from sagepool_kube.patience import PatientApi
from sagepool_operator.cache import ReflectedCache
from sagepool_operator.config import LeaseName, Settings
from sagepool_operator.election import Pace
from sagepool_operator.engine_session import EngineSession
from sagepool_operator.errors import OperatorError
from sagepool_operator.fence import FencedApi
from sagepool_operator.leader import Leader
from sagepool_operator.term import Term

_logger: Final = logging.getLogger(__name__)
_OWN_TIMEOUT_S: Final = 2.0
"""For an answer of a program of ours: it has nothing to work out."""


def utc_now() -> datetime:
    """The time, for status and events."""
    return datetime.now(UTC)


class Operator:
    """Reconciles every pool from `start` to `stop`, while it leads. Belongs to one event loop."""

    def __init__(
        self,
        api: KubeApi,
        settings: Settings,
        *,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        pods: EngineHttp | None = None,
    ) -> None:
        """Take the API server and the settings; nothing runs before `start`.

        `pods` asks engines, routers and downloads, `transport` reaches everything else; left out:
        the network.
        """
        self._api = api
        self._settings = settings
        self._now = now
        self._clock = clock
        self._rng = rng if rng is not None else Random()
        self._cache = ReflectedCache(api, settings.namespace, self.wake, clock)
        # Apart, so that engines which hang take no turn of a router's.
        self._sessions = (EngineSession(settings.probe.timeout_s), EngineSession(_OWN_TIMEOUT_S))
        self._engines, self._own = (pods, pods) if pods is not None else self._sessions
        self._client = httpx.AsyncClient(
            timeout=settings.probe.timeout_s,
            limits=httpx.Limits(keepalive_expiry=4.0),
            transport=transport,
            # Routers use no proxy for a provider either, and take the certificates that the system
            # takes.
            trust_env=False,
            verify=ssl.create_default_context(),
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._is_synced = False
        self._term: Term | None = None
        """The present one; None while another operator works."""
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
        await self._client.aclose()
        for session in self._sessions:
            await session.aclose()

    def wake(self, key: PoolKey) -> None:
        """Look at a pool soon, if this operator works: a term begins with a look at every pool."""
        if self._term is not None:
            self._term.wake(key)

    def health(self) -> Mapping[str, Any]:
        """For the liveness probe and for people.

        Raises:
            OperatorError: a part of the operator has ended; it has to be started again.
        """
        if self.failed.is_set():
            raise OperatorError("a part of the operator has ended: its log says why")
        term = self._term
        last = term.last_success if term is not None else None
        return {
            "synced": self._is_synced,
            "leading": term is not None,
            "queueDepth": term.queue_depth if term is not None else 0,
            "pools": len(self._cache.keys()),
            "lastSuccessfulReconcile": last.isoformat(timespec="seconds") if last else None,
            "errors": self._cache.errors(),
        }

    async def _work(self) -> None:
        await self._cache.wait_until_synced()
        self._is_synced = True
        _logger.info("following all pools", extra={"pools": len(self._cache.keys())})
        lease = self._settings.lease
        if lease is None:
            await self._serve_term(self._api)
        else:
            await self._serve_terms(lease)

    async def _serve_terms(self, lease: LeaseName) -> None:
        leader = Leader(
            self._api,
            lease,
            # A container that is started again keeps its name: it is another process all the same.
            f"{_reporter()}_{uuid.uuid4().hex[:8]}",
            Pace(self._settings.lease_s),
            clock=self._clock,
            now=self._now,
        )
        fenced = FencedApi(self._api, lambda: leader.is_leading)
        await leader.run(lambda: self._serve_term(fenced))

    async def _serve_term(self, api: ObjectApi) -> None:
        self._term = Term(
            PatientApi(api),
            self._cache,
            self._client,
            self._engines,
            self._own,
            self._settings,
            reporter=_reporter(),
            now=self._now,
            clock=self._clock,
            rng=self._rng,
        )
        try:
            await self._term.run()
        finally:
            self._term = None

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
