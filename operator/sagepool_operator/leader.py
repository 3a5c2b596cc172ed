"""Takes part in the election of the operator that works, and works while it leads.

The rules are in election.py; here are the calls. The official client's own election is not used:
it cannot make the Lease, and a refused connection ends it while the work goes on.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any, Final

from sagepool_kube.api import LEASES, KubeApi, WatchEvent
from sagepool_kube.errors import AlreadyExists, Conflict, KubeError, NotFound, Unavailable
from sagepool_operator.config import LeaseName
from sagepool_operator.election import Claim, Election, Pace, build_lease, read_claim
from sagepool_operator.errors import OperatorError

_logger: Final = logging.getLogger(__name__)


class Leader:
    """One candidate, and leader at times. Belongs to one event loop."""

    def __init__(
        self,
        api: KubeApi,
        lease: LeaseName,
        identity: str,
        pace: Pace,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        """Prepare; nothing is asked before `run`.

        Args:
            api: the API server.
            lease: the Lease that all candidates share.
            identity: a name that no other process ever has.
            pace: how long the lease lasts.
            clock: seconds, never set back.
            now: the time, for people who look at the Lease.
        """
        self._api = api
        self._lease = lease
        self._identity = identity
        self._pace = pace
        self._clock = clock
        self._now = now
        self._election = Election(identity, pace)
        self._told = ""
        """Whom the log has named as the leader."""

    @property
    def is_leading(self) -> bool:
        """Whether it is sure, at this moment, that no other operator works."""
        return self._election.sure_for_s(self._clock()) > 0

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `work` whenever it leads, until cancelled; then give the lease back.

        `work` is cancelled when the lead is lost, and begun anew with the next one.

        Raises:
            OperatorError: `work` has ended by itself. An error of its own is raised as it is.
        """
        try:
            while True:
                await self._win()
                await self._lead(work)
        finally:
            await self._resign()

    async def _win(self) -> None:
        while not self.is_leading:
            try:
                await self._campaign()
            except KubeError as error:
                _logger.warning("cannot take part in the election", extra={"error": str(error)})
                await asyncio.sleep(self._pace.retry_s)

    async def _campaign(self) -> None:
        await self._look()
        if self._election.free_in_s(self._clock()) == 0:
            with suppress(AlreadyExists, Conflict):  # another one was faster
                await self._write(self._election.claim(self._now()))
            return
        if self._election.holder != self._told:
            self._told = self._election.holder
            _logger.info("another operator leads", extra={"leader": self._told})
        await self._wait_until_free()

    async def _lead(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        _logger.info("this operator leads", extra={"lease": str(self._lease)})
        self._told = ""
        working = asyncio.create_task(work(), name="work of the leader")
        renewing = asyncio.create_task(self._renew_until_lost(), name="renew the lease")
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
                raise OperatorError("the work of the leader has ended by itself")
            await renewing
        finally:
            working.cancel()
            renewing.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
            _logger.info("this operator leads no longer")

    async def _renew_until_lost(self) -> None:
        pause_s = self._pace.renew_s
        while True:
            await asyncio.sleep(min(pause_s, self._election.sure_for_s(self._clock())))
            if not self.is_leading:
                return
            try:
                await self._renew()
                pause_s = self._pace.renew_s
            except KubeError as error:
                _logger.warning("cannot renew the lease", extra={"error": str(error)})
                pause_s = self._pace.retry_s

    async def _renew(self) -> None:
        try:
            await self._write(self._election.claim(self._now()))
        except Conflict:
            # Another one has taken it, or the answer to an earlier renewal was lost.
            await self._look()
            if self.is_leading:
                await self._write(self._election.claim(self._now()))

    async def _resign(self) -> None:
        try:
            try:
                await self._give_back()
            except Conflict:
                # A renewal has arrived whose answer was not waited for any more.
                await self._look()
                await self._give_back()
        except KubeError as error:
            _logger.warning(
                "cannot give the lease back: the next leader waits until it has run out",
                extra={"error": str(error)},
            )

    async def _give_back(self) -> None:
        claim = self._election.resign(self._now())
        if claim is not None:
            await self._apply(claim)

    # Calls, each within a limit.

    async def _look(self) -> None:
        try:
            async with self._limit():
                found = await self._api.get(LEASES, self._lease.namespace, self._lease.name)
        except NotFound:
            self._election.observe(None, self._clock())
        except TimeoutError as error:
            raise Unavailable(f"get lease {self._lease}: no answer in time") from error
        else:
            self._election.observe(read_claim(found), self._clock())

    async def _write(self, claim: Claim) -> None:
        sent_s = self._clock()
        self._election.won(await self._apply(claim), sent_s)

    async def _apply(self, claim: Claim) -> Claim:
        lease = build_lease(self._lease.namespace, self._lease.name, claim)
        # Only a create is refused when somebody else has just made it.
        write = self._api.apply if claim.version else self._api.create
        try:
            async with self._limit():
                return read_claim(await write(LEASES, self._lease.namespace, lease))
        except TimeoutError as error:
            raise Unavailable(f"write lease {self._lease}: no answer in time") from error

    def _limit(self) -> asyncio.Timeout:
        """A call of a leader ends before its lead does."""
        left_s = self._election.sure_for_s(self._clock())
        return asyncio.timeout(min(self._pace.call_s, left_s or self._pace.call_s))

    async def _wait_until_free(self) -> None:
        """Wait for changes of the lease until it may be taken.

        Raises:
            KubeError: the API server ended the watch.
        """
        if not self._election.version:  # it was deleted under its holder
            await asyncio.sleep(self._election.free_in_s(self._clock()))
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit, aclosing(self._watch()) as events:
                limit.reschedule(loop.time() + self._election.free_in_s(self._clock()))
                async for event in events:
                    if event.type == "BOOKMARK":
                        continue
                    is_there = event.type != "DELETED"
                    claim = read_claim(event.object) if is_there else None
                    self._election.observe(claim, self._clock())
                    free_in_s = self._election.free_in_s(self._clock())
                    if free_in_s == 0:
                        return
                    limit.reschedule(loop.time() + free_in_s)
        except TimeoutError:
            return

    def _watch(self) -> AsyncGenerator[WatchEvent, None]:
        return self._api.watch(
            LEASES,
            self._lease.namespace,
            resource_version=self._election.version,
            field_selector=f"metadata.name={self._lease.name}",
        )
