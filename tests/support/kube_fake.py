"""A Kubernetes API server in memory, for tests: the part of its behaviour that sagepool relies on.

tests/kube runs one suite against it and against a real API server, so that it cannot drift.
Server-side apply is in kube_ownership.py.

Left out: schemas and defaults of built-in kinds, CEL, finalizers, graceful deletion, RBAC.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from kube_changes import BOOKMARK, Change, bookmark_of, event_of, matcher
from kube_json_patch import PatchFailed, patched
from kube_ownership import (
    Owners,
    OwnershipConflict,
    RepeatedKey,
    copied,
    leaves,
    merge_apply,
)
from sagepool_crds import names
from sagepool_crds.admission.structure import find_problems, with_defaults
from sagepool_crds.crd import build_crds
from sagepool_kube.api import (
    DEPLOYMENTS,
    INSTANCES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    POOLS,
    Kind,
    Object,
    ObjectList,
    WatchEvent,
)
from sagepool_kube.errors import (
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    Unavailable,
)

Json: TypeAlias = dict[str, Any]
_Address: TypeAlias = tuple[Kind, str, str]
Fields: TypeAlias = Mapping[str, Sequence[Sequence[str]]]
"""The paths of the fields that each manager has set."""

_WITH_STATUS: Final = (POOLS, INSTANCES, PODS, DEPLOYMENTS, POD_DISRUPTION_BUDGETS)
_SCHEMAS: Final = {
    kind: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for kind in (POOLS, INSTANCES)
    for crd in (build_crds()[kind.plural],)
}


@dataclass(frozen=True)
class Write:
    """A write that the server accepted."""

    verb: str
    """create, apply or delete."""
    kind: Kind
    namespace: str
    name: str
    subresource: str = ""
    changed: bool = True
    """False: an apply that changed nothing."""


@dataclass
class _Record:
    obj: Json
    owners: Owners = field(default_factory=dict)


class FakeKube:
    """Implements `sagepool_kube.api.KubeApi`; the other methods arrange the world for a test."""

    def __init__(self) -> None:
        """An empty cluster."""
        self.writes: list[Write] = []
        """Every write through the KubeApi methods, in order."""
        self.calls: list[tuple[str, Kind]] = []
        """Every call through the KubeApi methods, refused ones too: verb and kind."""
        self.arrivals: list[str] = []
        """Every object that came into being, in order, as `Kind NAMESPACE/NAME`."""
        self._records: dict[_Address, _Record] = {}
        self._changes: list[Change] = []
        self.version = 100
        """The present resourceVersion."""
        self.delivered = 0
        """The version up to which a watch's reader has taken everything in."""
        self._compacted = 0
        self._uids = 0
        self._down: KubeError | None = None
        self._faults: list[tuple[str, Kind | None, KubeError]] = []
        self._broken: KubeError | None = None
        self._epoch = 0
        self._news = asyncio.Event()

    # What a test arranges.

    def put(self, kind: Kind, obj: Object, *, owners: Fields | None = None) -> Json:
        """Place an object as somebody else would, status included; replaces one of its name.

        `owners` are who has set which of its fields, as `owned` tells; left out: nobody of ours.
        """
        new: Json = copied(dict(obj))
        new.setdefault("apiVersion", kind.api_version)
        new.setdefault("kind", kind.kind)
        address = (kind, new["metadata"].get("namespace", ""), new["metadata"]["name"])
        old = self._records.get(address)
        if old is None:
            self._insert(address, new)
        else:
            kept = {k: old.obj["metadata"][k] for k in ("uid", "creationTimestamp", "generation")}
            new["metadata"] = {**new["metadata"], **kept}
            self._update(address, new)
        for manager, paths in (owners or {}).items():
            self._records[address].owners[manager] = {tuple(path) for path in paths}
        return self.read(kind, address[1], address[2])

    def owned(self, kind: Kind) -> list[tuple[Json, Fields]]:
        """All objects of a kind, each with who has set which of its fields."""
        return [
            (
                copied(record.obj),
                {m: sorted(map(list, paths)) for m, paths in record.owners.items()},
            )
            for address, record in self._records.items()
            if address[0] == kind
        ]

    def edit(
        self, kind: Kind, namespace: str | None, name: str, change: Callable[[Json], None]
    ) -> Json:
        """Change an object in place as somebody else would, status included."""
        record = self._records[address := self._find("edit", kind, namespace, name)]
        new = copied(record.obj)
        change(new)
        before, after = leaves(record.obj), leaves(new)
        touched = {path for path in before | after if before.get(path) != after.get(path)}
        for manager in record.owners:
            record.owners[manager] -= touched
        record.owners.setdefault("somebody-else", set()).update(touched & after.keys())
        self._update(address, new)
        return self.read(kind, namespace, name)

    def redefine(
        self, kind: Kind, namespace: str | None, name: str, change: Callable[[Json], None]
    ) -> None:
        """Let an object read otherwise at the version that it has: so it does when its
        CustomResourceDefinition has become another."""
        change(self._records[self._find("edit", kind, namespace, name)].obj)

    def remove(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Delete an object, and what it owns, as somebody else would."""
        self._drop(self._find("remove", kind, namespace, name))

    def collect_garbage(self) -> None:
        """Delete what has owners none of which is there, as after every deletion.

        What is made for an owner that has gone meanwhile waits for a call of this.
        """
        uids = {record.obj["metadata"]["uid"] for record in self._records.values()}
        for other, record in list(self._records.items()):
            owners = [o["uid"] for o in record.obj["metadata"].get("ownerReferences", ())]
            if owners and not uids.intersection(owners) and other in self._records:
                self._drop(other)

    def read(self, kind: Kind, namespace: str | None, name: str) -> Json:
        """A copy of an object. Raises NotFound."""
        return copied(self._records[self._find("get", kind, namespace, name)].obj)

    def all(self, kind: Kind) -> list[Json]:
        """Copies of all objects of a kind."""
        return [copied(r.obj) for a, r in self._records.items() if a[0] == kind]

    @contextmanager
    def down(self, error: KubeError | None = None) -> Iterator[None]:
        """While inside, every call fails and every watch is broken."""
        self._down = error or Unavailable("connection refused")
        self.break_watches(self._down)
        try:
            yield
        finally:
            self._down = None

    def fail_next(self, verb: str, error: KubeError, kind: Kind | None = None) -> None:
        """Make the next call of that verb (get, list, watch, create, apply, delete) fail once."""
        self._faults.append((verb, kind, error))

    def break_watches(self, error: KubeError | None = None) -> None:
        """End every open watch: with an error, or as the server does when its time is over or its
        kind has become another."""
        self._broken = error
        self._epoch += 1
        self._wake()

    def compact(self) -> None:
        """Forget the past: watches from an earlier version get Gone, lists still work."""
        self._changes.clear()
        self._compacted = self.version

    def bookmark(self) -> None:
        """Let every open watch send a bookmark of the present version."""
        self._record_change(BOOKMARK, None, None)

    # KubeApi.

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Read one object."""
        self._enter("get", kind)
        return self.read(kind, namespace, name)

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> ObjectList:
        """Read all objects that match."""
        self._enter("list", kind)
        matches = matcher(kind, namespace, label_selector, field_selector)
        return ObjectList(tuple(o for o in self.all(kind) if matches(o)), str(self.version))

    async def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: float = 300.0,
        inactivity_s: float = 90.0,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield changes after a version."""
        self._enter("watch", kind)
        matches = matcher(kind, namespace, label_selector, field_selector)
        epoch, seen = self._epoch, int(resource_version)
        yield bookmark_of(kind, seen)
        while True:
            news = self._news
            if seen < self._compacted:
                raise Gone(f"watch {kind.resource}: too old resource version: {seen} (410)")
            for change in [c for c in self._changes if c.version > seen]:
                seen = change.version
                event = event_of(change, kind, matches)
                if event is not None:
                    yield event
            if self._epoch != epoch:
                if self._broken is not None:
                    raise self._broken
                return
            self.delivered = seen
            if self.version == seen:
                await news.wait()

    async def create(self, kind: Kind, namespace: str | None, obj: Object) -> Object:
        """Create; refuses a name that is taken."""
        self._enter("create", kind)
        new = self._incoming(kind, namespace, obj)
        meta = new["metadata"]
        if "name" not in meta:
            meta["name"] = f"{meta['generateName']}{self._uids:05d}"
        if kind in _WITH_STATUS:
            new.pop("status", None)
        address = (kind, meta.get("namespace", ""), meta["name"])
        if address in self._records:
            raise AlreadyExists(f"create {kind.resource} {meta['name']}: already exists (409)")
        owned = set(leaves(_part(kind, new, None)))
        self._insert(address, _admitted(kind, new)).owners[f"{names.FIELD_MANAGER}:create"] = owned
        self.writes.append(Write("create", *address))
        return self.read(*address)

    async def apply(
        self,
        kind: Kind,
        namespace: str | None,
        obj: Object,
        *,
        field_manager: str = names.FIELD_MANAGER,
        subresource: str | None = None,
        force: bool = True,
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply: create or merge, with field ownership by manager."""
        self._enter("apply", kind)
        wanted = self._incoming(kind, namespace, obj)
        address = (kind, wanted["metadata"].get("namespace", ""), wanted["metadata"]["name"])
        uid = wanted["metadata"].pop("uid", None)
        version = wanted["metadata"].pop("resourceVersion", None)
        record = self._records.get(address)
        if record is None and subresource:
            raise NotFound(f"apply {kind.resource}/{subresource} {address[2]}: not found (404)")
        if record is not None and uid not in (None, record.obj["metadata"]["uid"]):
            raise Conflict(f"apply {kind.resource} {address[2]}: Precondition failed: UID (409)")
        if record is not None and version not in (None, record.obj["metadata"]["resourceVersion"]):
            raise Conflict(f"apply {kind.resource} {address[2]}: it has been modified (409)")
        part = _part(kind, wanted, subresource)
        base = record.obj if record is not None else _skeleton(wanted)
        owners = {m: set(paths) for m, paths in record.owners.items()} if record else {}
        manager = f"{field_manager}/{subresource}" if subresource else field_manager
        try:
            new = merge_apply(base, part, owners, manager, force=force)
        except OwnershipConflict as error:
            raise Conflict(f"apply {kind.resource} {address[2]}: {error} (409)") from None
        except RepeatedKey as error:
            raise Invalid(f"apply {kind.resource} {address[2]}: {error} (500)") from None
        new = _admitted(kind, new)
        if dry_run:
            return new
        if record is None:
            self._insert(address, new).owners.update(owners)
            changed = True
        else:
            record.owners = owners
            changed = self._update(address, new)
        self.writes.append(Write("apply", *address, subresource or "", changed))
        return self.read(*address)

    async def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        field_manager: str = names.FIELD_MANAGER,
    ) -> Object:
        """JSON Patch, of which only the operations test, add and replace are known."""
        self._enter("patch", kind)
        address = self._find("patch", kind, namespace, name)
        try:
            new = patched(self._records[address].obj, operations)
        except PatchFailed as error:
            raise Invalid(f"patch {kind.resource} {name}: {error} (422)") from None
        changed = self._update(address, _admitted(kind, new))
        self.writes.append(Write("patch", *address, "", changed))
        return self.read(*address)

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None
    ) -> None:
        """Delete an object and what it owns."""
        self._enter("delete", kind)
        address = self._find("delete", kind, namespace, name)
        if uid not in (None, self._records[address].obj["metadata"]["uid"]):
            raise Conflict(f"delete {kind.resource} {name}: Precondition failed: UID (409)")
        self._drop(address)
        self.writes.append(Write("delete", *address))

    async def close(self) -> None:
        """Nothing to close."""

    # The inside.

    def _enter(self, verb: str, kind: Kind) -> None:
        self.calls.append((verb, kind))
        if self._down is not None:
            raise self._down
        for fault in self._faults:
            if fault[0] == verb and fault[1] in (None, kind):
                self._faults.remove(fault)
                raise fault[2]

    def _find(self, verb: str, kind: Kind, namespace: str | None, name: str) -> _Address:
        address = (kind, namespace or "", name)
        if address not in self._records:
            raise NotFound(f"{verb} {kind.resource} {namespace or ''}/{name}: not found (404)")
        return address

    def _incoming(self, kind: Kind, namespace: str | None, obj: Object) -> Json:
        new: Json = copied(dict(obj))
        new["apiVersion"], new["kind"] = kind.api_version, kind.kind
        new["metadata"] = dict(new.get("metadata", {}))
        if namespace is not None:
            new["metadata"].setdefault("namespace", namespace)
            if new["metadata"]["namespace"] != namespace:
                raise Invalid(f"{kind.resource}: the namespace does not match the request (400)")
        return new

    def _insert(self, address: _Address, obj: Json) -> _Record:
        self._uids += 1
        meta = obj["metadata"]
        meta["uid"] = meta.get("uid") or f"uid-{self._uids}"
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        meta["generation"] = 1
        self._records[address] = _Record(obj)
        self.arrivals.append(f"{address[0].kind} {address[1]}/{address[2]}")
        self._record_change(address[0], None, obj)
        return self._records[address]

    def _update(self, address: _Address, new: Json) -> bool:
        """Store a new state; False when nothing changed."""
        record = self._records[address]
        old = record.obj
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old:
            return False
        if _without_status(new) != _without_status(old):
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        record.obj = new
        self._record_change(address[0], old, new)
        return True

    def _drop(self, address: _Address) -> None:
        """Delete, then garbage-collect what has no owner left."""
        obj = self._records.pop(address).obj
        self._record_change(address[0], obj, None, copied(obj))
        self.collect_garbage()

    def _record_change(
        self, kind: Kind, before: Json | None, after: Json | None, final: Json | None = None
    ) -> None:
        self.version += 1
        for obj in (after, final):
            if obj is not None:
                obj["metadata"]["resourceVersion"] = str(self.version)
        change = Change(self.version, kind, copied(final or before), copied(after))
        self._changes.append(change)
        self._wake()

    def _wake(self) -> None:
        """Let every open watch look again."""
        self._news.set()
        self._news = asyncio.Event()


def _part(kind: Kind, wanted: Json, subresource: str | None) -> Json:
    """The part of an apply that this address of the API takes."""
    if subresource == "status":
        return {"status": wanted.get("status", {})}
    if subresource is not None:
        raise NotFound(f"apply {kind.resource}/{subresource}: the fake has no such subresource")
    dropped = {"apiVersion", "kind"} | ({"status"} if kind in _WITH_STATUS else set())
    part = {key: value for key, value in wanted.items() if key not in dropped}
    part["metadata"] = {k: v for k, v in part["metadata"].items() if k not in ("name", "namespace")}
    return part


def _skeleton(wanted: Json) -> Json:
    kept = {k: v for k, v in wanted["metadata"].items() if k in ("name", "namespace")}
    return {"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": kept}


def _without_status(obj: Json) -> Json:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _admitted(kind: Kind, obj: Json) -> Json:
    """The object with its kind's defaults; what its schema refuses is Invalid."""
    if kind not in _SCHEMAS:
        return obj
    new: Json = with_defaults(_SCHEMAS[kind], obj)
    unknown, problems = find_problems(_SCHEMAS[kind], new)
    if unknown or problems:
        wrong = [f"unknown field {path}" for path in unknown] + [str(p) for p in problems]
        raise Invalid(f"{kind.resource} {obj['metadata']['name']}: {', '.join(wrong)} (422)")
    return new
