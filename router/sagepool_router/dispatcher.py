"""What all requests of a process share: scheduler, fleet, limits, budgets, counters, the sweep.

One dispatcher per process. It is made before the server starts and handed to the protocol in
uvicorn's lifespan state under the key "dispatcher".
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from sagepool_router.accounts import Accounts
from sagepool_router.admission import Admission, cut
from sagepool_router.attempts import Attempts
from sagepool_router.auth.keys import ApiKey
from sagepool_router.auth.source import KeySource
from sagepool_router.backend import LiveBackend
from sagepool_router.batch_call import BatchCall
from sagepool_router.cloud import CloudKey
from sagepool_router.counters import Counters
from sagepool_router.demand import DemandMeter
from sagepool_router.errors import RouterError, Unavailable
from sagepool_router.exchange import Exchange
from sagepool_router.fleet import BackendLoad, Fleet
from sagepool_router.limits import Limits
from sagepool_router.load_poller import LoadPoller
from sagepool_router.request_head import RequestHead, find_refusal
from sagepool_router.retries import RetryBudget
from sagepool_router.scheduling.scheduler import Scheduler
from sagepool_router.scheduling.settings import SchedulingSettings
from sagepool_router.table import RoutingTable
from sagepool_router.upstream import CoarseClock, UpstreamConnection

_logger: Final = logging.getLogger(__name__)


class ClientConnection(Protocol):
    """A client's connection as the dispatcher sees it."""

    def tick(self, now: float) -> None:
        """Compare with the limits; called by the sweep."""

    def shutdown(self) -> None:
        """Close after the request under way, or the next one, or when none comes soon."""


class Dispatcher:
    """The shared state of the request path.

    Args:
        limits: how long to wait and how much to hold.
        random: uniform in [0, 1): chooses among equally loaded backends and jitters Retry-After.
        clock: seconds, monotonic.
        tls: for backends with https addresses; None: the system's trust store.
        keys: the API keys that let clients in; None: everybody is.
        cloud_key: file with the key of the provider; None: it asks for none.
        logs_requests: write a line for each.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        random: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        tls: ssl.SSLContext | None = None,
        keys: KeySource | None = None,
        cloud_key: Path | None = None,
        logs_requests: bool = False,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.budget = RetryBudget(clock)
        self.counters = Counters()
        self.exchanges: set[Exchange] = set()
        """Requests under way."""
        self.clients: set[ClientConnection] = set()
        """Open connections of clients."""
        self.is_draining = False
        """The process is about to stop: connections close after the request under way."""
        self.now = 0.0
        """Time of the last sweep: as old as one tick, free to read."""
        self._coarse_clock = CoarseClock()
        self.admission = Admission(self)
        self.accounts = Accounts(self)
        self.scheduler: Scheduler[LiveBackend] = Scheduler(
            SchedulingSettings(),
            start=self.admission.start,
            cut=cut,
            clock=clock,
            random=random,
            call_later=self.call_later,
        )
        self.fleet = Fleet(
            limits, self._coarse_clock, self.counters, self.scheduler, CloudKey(cloud_key)
        )
        self.demand = DemandMeter(self.fleet, clock)
        self.keys = keys
        self.logs_requests = logs_requests
        self._poller = LoadPoller(
            lambda: self.fleet.backends,
            LiveBackend.observe_load,
            clock,
            on_silence=LiveBackend.forget_load,
        )
        self.batches: set[BatchCall] = set()
        """Embedding calls under way that carry more, or less, than one request."""
        self._random = random
        self._tls = tls
        self.held_body_bytes = 0
        """Bytes of request bodies in memory, and of the copies that merging makes of them."""
        self._drained = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._request_id_start = secrets.token_hex(5).encode() + b"-"
        self._request_numbers = itertools.count(1)

    # Life.

    def start(self) -> None:
        """Begin to check limits; to be called in the event loop that serves, before it serves."""
        self._sweep()
        self._poller.start()

    def swap(self, table: RoutingTable) -> None:
        """Use a new table for every request from now on; requests under way, or waiting, go on."""
        self.fleet.swap(table)
        for work in self.scheduler.drop_unlisted():
            self.admission.drop(work)
        self.admission.forgive()
        self.admission.hand_over()
        if self.keys is not None:
            self.keys.keep_to(1 / table.routers)
        elif table.asks_for_keys:
            _logger.error("the pool asks for API keys and --api-keys is not given: nobody gets in")

    async def drain(self, grace_s: float) -> None:
        """Let requests finish for `grace_s`, then end those that are left with an error.

        Connections of clients close after the request under way, or the next one, or when they
        have been idle for `farewell_s`.
        """
        self.is_draining = True
        for client in tuple(self.clients):
            client.shutdown()
        if self.exchanges:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), grace_s)
        if self.exchanges:
            _logger.warning("requests cut off by shutdown", extra={"requests": len(self.exchanges)})
        for exchange in tuple(self.exchanges):
            exchange.fail(
                Unavailable("the router is shutting down", "shutting_down", retry_after_s=1)
            )

    async def close(self) -> None:
        """Stop checking limits and close idle connections to engines; `drain` comes before."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._poller.close()
        self.fleet.close()
        for task in tuple(self._connecting):
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports are torn down in the loop's next turn

    def snapshot(self) -> tuple[BackendLoad, ...]:
        """Live figures of every backend of the table, for the admin port and for metrics."""
        return self.fleet.loads()

    # For the request path.

    def next_request_id(self) -> bytes:
        """An id for a request that has none."""
        return b"%b%x" % (self._request_id_start, next(self._request_numbers))

    def overload(self, what: str) -> Unavailable:
        """The refusal of a request because this process has too many of something."""
        return Unavailable(
            f"this router has too many {what}",
            "overloaded",
            retry_after_s=self.jittered(self.limits.retry_after_s),
        )

    def batch_ended(self, batch: BatchCall) -> None:
        """An embedding call is over, however."""
        self.batches.discard(batch)
        self.scheduler.finished(batch.call)

    def jittered(self, seconds: float) -> float:
        """So that those who were refused together do not come back together."""
        return seconds * (0.9 + 0.2 * self._random())

    def identify(self, authorization: bytes | None) -> ApiKey | None:
        """Whose request it is by its header; None where the pool asks for no keys.

        Raises:
            Unauthorized: it is nobody's.
            Unavailable: the pool asks for keys, and this router was started without any.
        """
        if self.keys is not None:
            return self.keys.keyring.find(authorization)
        if self.fleet.table.asks_for_keys:
            raise Unavailable(
                "this pool asks for API keys (spec.router.auth) and this router knows none: "
                "start it with --api-keys",
                "no_api_keys",
                retry_after_s=self.jittered(self.limits.absence_retry_after_s),
            )
        return None

    def look_at(self, head: RequestHead) -> tuple[ApiKey | None, RouterError | None]:
        """Whose request it is, and why it is refused before its body is read."""
        refusal = find_refusal(head, self.limits)
        if refusal is not None:
            return None, refusal
        key = None
        if self.keys is not None or self.fleet.table.asks_for_keys:
            try:
                key = self.identify(head.authorization)
            except RouterError as error:
                return None, error
        if len(self.exchanges) >= self.limits.max_inflight:
            return key, self.overload("requests under way")
        return key, None

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call once after `delay_s`."""
        return asyncio.get_running_loop().call_later(delay_s, callback)

    def connect(self, delivery: Attempts, backend: LiveBackend) -> None:
        """Open a connection for a call."""
        task = asyncio.get_running_loop().create_task(self._connect(delivery, backend))
        self._connecting.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, delivery: Attempts, backend: LiveBackend) -> None:
        facts = backend.facts
        is_tls = facts.scheme == "https"
        try:
            async with asyncio.timeout(self.limits.connect_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: UpstreamConnection(backend.pool),
                    facts.host,
                    facts.port,
                    ssl=self._tls_context() if is_tls else None,
                    server_hostname=facts.host if is_tls else None,
                )
        except (OSError, TimeoutError, UnicodeError) as error:  # the last: no name of a host
            reason = f"cannot connect: {str(error) or 'timeout'}"
            backend.failed(reason, is_connect=True)
            if delivery.awaits_connection(backend):
                delivery.connect_failed(reason)
            return
        if delivery.awaits_connection(backend):
            delivery.connected(connection)
        elif not connection.transport.is_closing():
            backend.pool.put(connection)  # the client left meanwhile

    def _tls_context(self) -> ssl.SSLContext:
        """Made when it is first needed: loading the trust store takes many milliseconds."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def note_drained(self) -> None:
        """Tell `drain` if the last request has ended."""
        if not self.exchanges:
            self._drained.set()

    def _sweep(self) -> None:
        """One timer for everything: exchanges, clients' connections, pools."""
        now = self.now = self._coarse_clock.now = self.clock()
        self._sweeper = asyncio.get_running_loop().call_later(self.limits.sweep_tick_s, self._sweep)
        owners: tuple[Exchange | BatchCall | ClientConnection, ...] = (
            *self.exchanges,
            *self.batches,
            *self.clients,
        )
        for owner in owners:
            try:
                owner.tick(now)
            except Exception:
                # one broken request must not stop the limits of all others
                _logger.exception("sweep failed")
        self.fleet.sweep()
        self.scheduler.sweep()
        self.demand.sweep()
