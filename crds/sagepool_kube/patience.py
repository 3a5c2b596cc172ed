"""Calls again when the API server asks to wait."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from sagepool_crds import names
from sagepool_kube.api import Kind, Object, ObjectApi
from sagepool_kube.errors import Unavailable

MAX_WAIT_S: Final = 30.0
"""For a call's waits together, and for one wait of a reflector."""

T = TypeVar("T")


class PatientApi:
    """An ObjectApi that waits as long as a server that throttles asks (429 or 503, Retry-After).

    Such a server has not done what it was asked for, and is about to be able to. When the waits of
    a call come to more than `MAX_WAIT_S`, the caller is told (Unavailable).

    It stands before a fence, not behind it: whoever may not write any more after a wait is held
    back.
    """

    def __init__(
        self, api: ObjectApi, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Take what is called, and what passes the time."""
        self._api = api
        self._sleep = sleep

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Read one object."""
        return await self._call(lambda: self._api.get(kind, namespace, name))

    async def create(self, kind: Kind, namespace: str | None, obj: Object) -> Object:
        """Create."""
        return await self._call(lambda: self._api.create(kind, namespace, obj))

    async def apply(
        self,
        kind: Kind,
        namespace: str | None,
        obj: Object,
        *,
        field_manager: str = names.FIELD_MANAGER,
        subresource: str | None = None,
        force: bool = True,
    ) -> Object:
        """Server-side apply."""
        return await self._call(
            lambda: self._api.apply(
                kind,
                namespace,
                obj,
                field_manager=field_manager,
                subresource=subresource,
                force=force,
            )
        )

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None
    ) -> None:
        """Delete."""
        await self._call(lambda: self._api.delete(kind, namespace, name, uid=uid))

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        left_s = MAX_WAIT_S
        while True:
            try:
                return await call()
            except Unavailable as error:
                if error.retry_after_s is None or error.retry_after_s > left_s:
                    raise
                # At least a moment, or a server that says 0 would be asked without an end.
                wait_s = max(error.retry_after_s, 0.1)
            left_s -= wait_s
            await self._sleep(wait_s)
