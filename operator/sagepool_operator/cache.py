"""Local copies of everything that the operator reads, by pool.

Each kind has a reflector of ours (`sagepool_kube.reflector`). kopf keeps an index too, but it
learns nothing of objects that vanish while its watch is being renewed: they stay in its index for
ever. Our reflector lists again and reports what is gone.

The cache also shows our own writes at once, and wakes their pool at once. Without that, a reconcile
that follows quickly would see the world before the last one and write the same again. What a watch
then shows of them is no news: nobody is woken a second time.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.meta import PoolKey
from sagepool_kube.api import INSTANCES, PODS, POOLS, Kind, KubeApi, Object
from sagepool_kube.reflector import ObjectKey, Reflector
from sagepool_operator.snapshot import CHILD_KINDS

_Index = dict[PoolKey, dict[str, Object]]

_TYPE: Final = frozenset({"apiVersion", "kind"})
"""What the objects of a list lack."""


class ReflectedCache:
    """Implements `snapshot.Cache`; wakes pools when something of theirs changes."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str | None,
        wake: Callable[[PoolKey], None],
        clock: Callable[[], float],
    ) -> None:
        """Prepare; nothing is read before `run`.

        Args:
            api: the API server.
            namespace: the one to follow; None for all.
            wake: called with the pool that a changed object belongs to.
            clock: seconds.
        """
        self._wake = wake
        kinds = (POOLS, INSTANCES, PODS, *CHILD_KINDS)
        self._index: dict[Kind, _Index] = {kind: {} for kind in kinds}
        self._unconfirmed: dict[Kind, dict[ObjectKey, Object]] = {kind: {} for kind in kinds}
        """Our writes that no watch has shown yet."""
        self._reflectors = {
            kind: Reflector(
                api,
                kind,
                namespace,
                project=_slim,
                on_change=partial(self._changed, kind),
                on_list=partial(self._forget_undone, kind),
                # A person may write an instance without any label.
                label_selector="" if kind in (POOLS, INSTANCES) else names.POOL_LABEL,
                clock=clock,
            )
            for kind in kinds
        }

    async def run(self) -> None:
        """Follow the API server until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors.values():
                tasks.create_task(reflector.run())

    async def wait_until_synced(self) -> None:
        """Return once every kind has been listed."""
        for reflector in self._reflectors.values():
            await reflector.synced.wait()

    def errors(self) -> list[str]:
        """Why kinds cannot be followed now; empty when all are."""
        return [r.health.error for r in self._reflectors.values() if not r.health.is_connected]

    def keys(self) -> set[PoolKey]:
        """Every pool that exists or that an instance names."""
        return {*self._index[POOLS], *self._index[INSTANCES]}

    def pool(self, key: PoolKey) -> Object | None:
        """The pool, or None."""
        return self._index[POOLS].get(key, {}).get(key.name)

    def children(self, key: PoolKey) -> Iterable[tuple[Kind, Object]]:
        """Objects of CHILD_KINDS that carry the pool's label."""
        return [(kind, obj) for kind in CHILD_KINDS for obj in self._of(kind, key)]

    def pods(self, key: PoolKey) -> Iterable[Object]:
        """Pods that carry the pool's label."""
        return self._of(PODS, key)

    def instances(self, key: PoolKey) -> Iterable[Object]:
        """Instances whose poolRef is the pool."""
        return self._of(INSTANCES, key)

    def note(self, kind: Kind, obj: Object) -> None:
        """Show an object as the API server has just returned it from a write of ours."""
        key = pool_of(kind, obj)
        if key is not None and not self._is_undone(kind, obj) and self._put(kind, key, obj):
            self._unconfirmed[kind][_address(obj)] = obj
            self._wake(key)

    def _of(self, kind: Kind, key: PoolKey) -> list[Object]:
        return list(self._index[kind].get(key, {}).values())

    def _confirm(self, kind: Kind, shown: Object) -> None:
        ours = self._unconfirmed[kind].get(_address(shown))
        # What is shown may be older than our write: then that one is still to come.
        if ours is not None and _version(shown) >= _version(ours):
            del self._unconfirmed[kind][_address(shown)]

    def _forget_undone(self, kind: Kind) -> None:
        """After a list: what somebody had deleted before it is never shown by a watch."""
        undone = [o for o in self._unconfirmed[kind].values() if self._is_undone(kind, o)]
        for obj in undone:
            del self._unconfirmed[kind][_address(obj)]
            key = pool_of(kind, obj)
            if key is not None:
                self._drop(kind, key, obj)
                self._wake(key)

    def _is_undone(self, kind: Kind, obj: Object) -> bool:
        """Whether the server has been seen without the object at that version of it or later."""
        reflector = self._reflectors[kind]
        return _address(obj) not in reflector.store and _number(reflector.version) >= _version(obj)

    def _changed(self, kind: Kind, old: Object | None, new: Object | None) -> None:
        before = pool_of(kind, old) if old is not None else None
        after = pool_of(kind, new) if new is not None else None
        woken = set()
        if old is not None and before is not None and before != after:
            self._drop(kind, before, old)
            woken.add(before)
        if new is not None and after is not None and self._put(kind, after, new):
            woken.add(after)
        shown = new or old
        if shown is not None:
            self._confirm(kind, shown)
        for key in woken:
            self._wake(key)

    def _put(self, kind: Kind, key: PoolKey, obj: Object) -> bool:
        """Take an object of the pool in, unless this state of it or a newer one is here; says
        whether it was."""
        objects = self._index[kind].setdefault(key, {})
        name = obj["metadata"]["name"]
        here = objects.get(name)
        slim = _slim(obj)
        if here is not None and not _is_news(here, slim):
            return False
        objects[name] = slim
        return True

    def _drop(self, kind: Kind, key: PoolKey, obj: Object) -> None:
        objects = self._index[kind].get(key, {})
        here = objects.get(obj["metadata"]["name"])
        if here is not None and here["metadata"].get("uid") == obj["metadata"].get("uid"):
            del objects[obj["metadata"]["name"]]
        if not objects:
            self._index[kind].pop(key, None)


def pool_of(kind: Kind, obj: Object) -> PoolKey | None:
    """The pool that an object belongs to, or says that it does."""
    meta = obj["metadata"]
    if kind == POOLS:
        name = meta["name"]
    elif kind == INSTANCES:
        name = (obj.get("spec") or {}).get("poolRef")
    else:
        name = (meta.get("labels") or {}).get(names.POOL_LABEL)
    return PoolKey(meta.get("namespace", ""), name) if name else None


def _slim(obj: Object) -> dict[str, Any]:
    """The object without the record of who set which field: half of its size, never read."""
    meta = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    return {**obj, "metadata": meta}


def _is_news(here: Object, obj: Object) -> bool:
    """Whether an object is newer than it is here, or reads otherwise at the same version: so it
    does once its CustomResourceDefinition is another."""
    if _version(obj) != _version(here):
        return _version(obj) > _version(here)
    return any(here.get(part) != obj.get(part) for part in {*here, *obj} - _TYPE)


def _address(obj: Object) -> ObjectKey:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _version(obj: Object) -> int:
    return _number(str(obj["metadata"].get("resourceVersion", "")))


def _number(version: str) -> int:
    """A resource version as a number: Kubernetes promises that it grows (KEP-5504)."""
    return int(version) if version.isdecimal() else 0
