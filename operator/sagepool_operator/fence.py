"""Lets writes through to the API server only while this operator is sure that it leads."""

from collections.abc import Callable

from sagepool_crds import names
from sagepool_kube.api import Kind, Object, ObjectApi
from sagepool_kube.errors import Unavailable


class FencedApi:
    """An ObjectApi whose writes raise Unavailable while `may_write` says no.

    The work of a leader that has lost the lease is cancelled. But a process that was stopped, or
    busy for seconds, goes on where it was: so every single write asks first.
    """

    def __init__(self, api: ObjectApi, may_write: Callable[[], bool]) -> None:
        """Take the API server, and who is asked before each write."""
        self._api = api
        self._may_write = may_write

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Read one object."""
        return await self._api.get(kind, namespace, name)

    async def create(self, kind: Kind, namespace: str | None, obj: Object) -> Object:
        """Create, while it leads."""
        self._check("create", kind)
        return await self._api.create(kind, namespace, obj)

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
        """Server-side apply, while it leads."""
        self._check("apply", kind)
        return await self._api.apply(
            kind, namespace, obj, field_manager=field_manager, subresource=subresource, force=force
        )

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None
    ) -> None:
        """Delete, while it leads."""
        self._check("delete", kind)
        await self._api.delete(kind, namespace, name, uid=uid)

    def _check(self, verb: str, kind: Kind) -> None:
        if not self._may_write():
            raise Unavailable(
                f"{verb} {kind.resource}: held back, another operator may be leading by now"
            )
