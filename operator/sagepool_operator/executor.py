"""Carries a plan out: applies, deletes, status, and an event where a write turned something.

What a pool is made of is written in its order. The writes for its engines do not depend on each
other: they are under way together, or a pool would come up as slowly as it has engines. How many is
bounded over all pools: an API server that is busy with us is slow for the kubelets too.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeAlias, TypeVar

from sagepool_kube.api import INSTANCES, Kind, Object, ObjectApi
from sagepool_kube.errors import Conflict, Forbidden, Invalid, NotFound, Terminating
from sagepool_operator.plan import Apply, ApplyStatus, Delete, Event, Plan

_logger: Final = logging.getLogger(__name__)
_AT_ONCE: Final = 16
"""Writes for engines that are under way together, of all pools."""

W = TypeVar("W")
_Write: TypeAlias = Apply | Delete | ApplyStatus


class Notes(Protocol):
    """Is shown what the API server made of our writes."""

    def note(self, kind: Kind, obj: Object) -> None:
        """An object as the API server returned it."""
        ...


class Executor:
    """Writes to the API server."""

    def __init__(
        self, api: ObjectApi, notes: Notes, record: Callable[[Event], Awaitable[None]]
    ) -> None:
        """Take the API server, who is shown its answers, and what records an event."""
        self._api = api
        self._notes = notes
        self._record = record
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def make(self, plan: Plan) -> tuple[str, ...]:
        """Apply, delete, open gates. What the API server refuses is returned in words, the rest is
        done.

        Raises:
            Terminating: the pool's namespace is being deleted; nothing of a later kind was tried.
            Unavailable: the API server cannot be reached.
        """
        parts: list[_Write] = [apply for apply in plan.applies if apply.kind != INSTANCES]
        engines: list[_Write] = [apply for apply in plan.applies if apply.kind == INSTANCES]
        refused: list[str] = []
        for write in (*parts, *plan.deletes):
            await self._try(refused, write)
        await self._together(partial(self._try, refused), [*engines, *plan.gates])
        return tuple(refused)

    async def report(self, plan: Plan) -> None:
        """Write status.

        Raises:
            KubeError: a status could not be written.
        """
        await self._together(self._apply_status, plan.statuses)

    async def _together(self, make: Callable[[W], Awaitable[None]], writes: Sequence[W]) -> None:
        """Make all of them; if some fail, the others are made all the same, and one error tells."""

        async def make_one(write: W) -> None:
            async with self._turns:
                await make(write)

        for result in await asyncio.gather(*map(make_one, writes), return_exceptions=True):
            if result is not None:
                raise result

    async def _try(self, refused: list[str], write: _Write) -> None:
        """Write, and add what the API server says if it refuses."""
        try:
            match write:
                case Apply():
                    await self._apply(write)
                case Delete():
                    await self._delete(write)
                case ApplyStatus():
                    await self._apply_status(write)
        except Terminating:
            raise
        except Forbidden as error:
            refused.append(f"{error}: give the operator's service account this right")
        except (Invalid, Conflict) as error:
            refused.append(str(error))

    async def _apply(self, apply: Apply) -> None:
        meta = apply.obj["metadata"]
        made = await self._api.apply(
            apply.kind, meta["namespace"], apply.obj, field_manager=apply.manager
        )
        self._notes.note(apply.kind, made)
        _logger.info("applied", extra=_fields(apply.kind, meta["namespace"], meta["name"]))
        await self._record_all(apply.events)

    async def _delete(self, delete: Delete) -> None:
        try:
            await self._api.delete(delete.kind, delete.namespace, delete.name, uid=delete.uid)
        except NotFound:
            return
        _logger.info("deleted", extra=_fields(delete.kind, delete.namespace, delete.name))
        await self._record_all(delete.events)

    async def _apply_status(self, status: ApplyStatus) -> None:
        meta = status.obj["metadata"]
        try:
            made = await self._api.apply(
                status.kind, meta["namespace"], status.obj, subresource="status"
            )
        except NotFound:
            return  # it has just been deleted
        self._notes.note(status.kind, made)
        await self._record_all(status.events)

    async def _record_all(self, events: tuple[Event, ...]) -> None:
        for event in events:
            await self._record(event)


def _fields(kind: Kind, namespace: str, name: str) -> dict[str, str]:
    return {"kind": kind.kind, "object": f"{namespace}/{name}"}
