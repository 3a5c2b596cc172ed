"""A local copy of the objects of one kind, kept right by list and watch.

    list ──► watch from the list's version ──► the server ends it: watch on from the last version
      ▲                 │
      │                 ├─ 410 Gone: the version is forgotten, list again
      ├─────────────────┼─ it breaks or falls silent: wait (longer each time), watch on
      └─────────────────┴─ it ends too soon, of a custom kind: the schema may be another, list again

A list replaces the whole copy: what is no longer in it counts as deleted. The scheme is that of
client-go's Reflector; bookmarks keep the version fresh, so that a quiet kind seldom needs a list.

The last line is ours. When a CustomResourceDefinition changes, the API server ends the watches of
its kind, but for a moment it still shows in them what is written by the new schema as the old one
reads it: without the fields that it does not know. At the same version the object reads otherwise
then, and only a list shows it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import Final, Generic, NoReturn, TypeAlias, TypeVar

from sagepool_kube.api import Kind, KubeApi, Object
from sagepool_kube.errors import Forbidden, Gone, KubeError, NotFound, Unavailable
from sagepool_kube.patience import MAX_WAIT_S

_logger: Final = logging.getLogger(__name__)

ObjectKey: TypeAlias = tuple[str, str]
"""Namespace and name; the namespace of a cluster-scoped object is empty."""
T = TypeVar("T")

_Change: TypeAlias = tuple[T | None, T | None]
"""Old and new."""

_WATCH_S: Final = 240.0
_SETTLED_S: Final = 5.0
"""A watch that lasted so long worked: the next failure starts with the shortest wait."""
_SHORT_S: Final = 1.0
"""A watch that the server ended sooner counts as a failure."""
_SLACK_S: Final = 1.0
"""By how much a watch may be shorter than was asked for, and have run its time."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after failures in a row: doubling, with jitter from half to whole."""

    first_s: float
    limit_s: float

    def delay_s(self, failures: int, rng: Random) -> float:
        """The wait after so many failures (1: the first)."""
        # The exponent is bounded, or a long outage overflows the float.
        whole = min(self.limit_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return whole * rng.uniform(0.5, 1.0)


_OUTAGE: Final = Backoff(first_s=0.2, limit_s=5.0)
_REFUSED: Final = Backoff(first_s=1.0, limit_s=30.0)
"""For errors that last until a person acts: a missing right, a missing CRD."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the copy follows the server."""

    is_connected: bool
    since: float
    """Clock time at which this began."""
    error: str = ""
    """Why it is not connected, in words."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    uid: str
    version: str
    value: T


class Store(Mapping[ObjectKey, T]):
    """The objects by namespace and name; only its reflector changes it."""

    def __init__(self) -> None:
        """An empty store."""
        self._entries: dict[ObjectKey, _Entry[T]] = {}

    def __getitem__(self, key: ObjectKey) -> T:
        """The object. Raises KeyError."""
        return self._entries[key].value

    def __iter__(self) -> Iterator[ObjectKey]:
        """The keys."""
        return iter(self._entries)

    def __len__(self) -> int:
        """The number of objects."""
        return len(self._entries)

    def _put(self, key: ObjectKey, entry: _Entry[T] | None) -> list[_Change[T]]:
        """Take the new state of an object in (None: it is gone)."""
        old = self._entries.get(key)
        if entry is None:
            self._entries.pop(key, None)
            return [(old.value, None)] if old is not None else []
        self._entries[key] = entry
        if old is None:
            return [(None, entry.value)]
        if old.version == entry.version and old.value == entry.value:
            return []
        if old.uid != entry.uid:
            # Deleted and made again in between: that is no change of the same object.
            return [(old.value, None), (None, entry.value)]
        return [(old.value, entry.value)]

    def _replace(self, entries: Mapping[ObjectKey, _Entry[T]]) -> list[_Change[T]]:
        """Take a whole list in; deletions come first."""
        gone = [key for key in self._entries if key not in entries]
        changes = [change for key in gone for change in self._put(key, None)]
        for key, entry in entries.items():
            changes += self._put(key, entry)
        return changes


def _ignore(*_: object) -> None:
    pass


class Reflector(Generic[T]):
    """Keeps `store` equal to the server's objects while `run` runs.

    While the server is away the store keeps its last state. `on_change` is called with (old, new)
    after the store has the change: None for old means added, None for new deleted. After a list
    it is called once the store holds the whole list.
    """

    def __init__(
        self,
        api: KubeApi,
        kind: Kind,
        namespace: str | None,
        *,
        project: Callable[[Object], T | None],
        on_change: Callable[[T | None, T | None], None] = _ignore,
        on_list: Callable[[], None] = _ignore,
        label_selector: str = "",
        field_selector: str = "",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Random | None = None,
    ) -> None:
        """Prepare; nothing is asked before `run`.

        Args:
            api: the API server.
            kind: what to follow.
            namespace: where; None for all namespaces.
            project: what to keep of an object; None leaves the object out. It, `on_change` and
                `on_list` must not raise: their errors end `run`.
            on_change: called for each change.
            on_list: called after the changes that a list has shown: what came and went before it
                is never told.
            label_selector: follow only objects with these labels.
            field_selector: follow only objects with these fields.
            clock: seconds; the same clock as `Health.since`.
            sleep: waits that many seconds.
            rng: source of jitter.
        """
        self.store: Store[T] = Store()
        self.synced = asyncio.Event()
        """Set once the first list is in the store; never cleared."""
        self._api = api
        self._kind = kind
        self._namespace = namespace
        self._project = project
        self._on_change = on_change
        self._on_list = on_list
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._clock = clock
        self._sleep = sleep
        self._rng = rng if rng is not None else Random()
        self._health = Health(False, clock(), "not started")
        self._version = ""
        """Version to watch from; empty: list first."""
        self._complained_of: type[KubeError] | None = None
        self._failures = 0
        """Failures in a row without progress between them."""

    @property
    def health(self) -> Health:
        """Whether the store follows the server now, and since when."""
        return self._health

    @property
    def version(self) -> str:
        """The version of the world that the store shows; empty before a list."""
        return self._version

    async def run(self) -> NoReturn:
        """Follow the server until cancelled. Errors of the server are logged and waited out."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except Gone as error:
                self._version = ""
                await self._pause(error, is_outage=False)
            except KubeError as error:
                self._disconnected(error)
                await self._pause(error, is_outage=True)

    async def _list(self) -> None:
        found = await self._api.list(
            self._kind,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        entries: dict[ObjectKey, _Entry[T]] = {}
        for obj in found.items:
            entry = self._entry(obj)
            if entry is not None:
                entries[_key(obj)] = entry
        changes = self.store._replace(entries)
        self._version = found.resource_version
        self._connected()
        for old, new in changes:
            self._on_change(old, new)
        self._on_list()
        self.synced.set()

    async def _watch(self) -> None:
        """Follow one watch to its end."""
        asked_s = _WATCH_S * self._rng.uniform(1.0, 1.5)
        events = self._api.watch(
            self._kind,
            self._namespace,
            resource_version=self._version,
            timeout_s=asked_s,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        started_at = self._clock()
        is_open = False
        try:
            async with aclosing(events):
                async for event in events:
                    if is_open:
                        self._failures = 0
                    is_open = True
                    self._connected()
                    self._take(event.type, event.object)
        finally:
            if is_open and self._clock() - started_at >= _SETTLED_S:
                self._failures = 0
        lasted_s = self._clock() - started_at
        if self._kind.is_custom and lasted_s < asked_s - _SLACK_S:
            self._version = ""
        if lasted_s < _SHORT_S:
            # Something between us and the server cuts watches off: no busy loop over it.
            await self._pause(None, is_outage=False)

    def _take(self, type_: str, obj: Object) -> None:
        self._version = obj["metadata"]["resourceVersion"]
        if type_ == "BOOKMARK":
            return
        entry = None if type_ == "DELETED" else self._entry(obj)
        for old, new in self.store._put(_key(obj), entry):
            self._on_change(old, new)

    def _entry(self, obj: Object) -> _Entry[T] | None:
        value = self._project(obj)
        if value is None:
            return None
        meta = obj["metadata"]
        return _Entry(meta.get("uid", ""), meta.get("resourceVersion", ""), value)

    async def _pause(self, error: KubeError | None, *, is_outage: bool) -> None:
        self._failures += 1
        if not is_outage and self._failures == 1:
            return  # a list that follows a forgotten version, or one short watch, need no wait
        # A server that has just started knows no rights yet: what worked before will again, soon.
        is_refused = isinstance(error, (Forbidden, NotFound)) and not self.synced.is_set()
        backoff = _REFUSED if is_refused else _OUTAGE
        asked_s = error.retry_after_s if isinstance(error, Unavailable) else None
        delay_s = backoff.delay_s(self._failures, self._rng)
        await self._sleep(max(delay_s, min(asked_s or 0.0, MAX_WAIT_S)))

    def _connected(self) -> None:
        if self._health.is_connected:
            return
        if self._health.error and self.synced.is_set():
            _logger.info("following the API server again", extra=self._fields())
        self._health = Health(True, self._clock())

    def _disconnected(self, error: KubeError) -> None:
        was = self._health
        since = self._clock() if was.is_connected else was.since
        self._health = Health(False, since, str(error))
        if not was.is_connected and type(error) is self._complained_of:
            return  # once an outage; a cause of another sort is news
        self._complained_of = type(error)
        _logger.warning(_advice(error), extra={**self._fields(), "error": str(error)})

    def _fields(self) -> dict[str, str]:
        return {"resource": self._kind.resource, "scope": self._namespace or "all namespaces"}


def _key(obj: Object) -> ObjectKey:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _advice(error: KubeError) -> str:
    if isinstance(error, Forbidden):
        return "the API server refuses us: grant our service account list and watch on the resource"
    if isinstance(error, NotFound):
        return "the API server does not know the resource: install the CustomResourceDefinitions"
    return "lost the API server: keeping the last state and trying again"
