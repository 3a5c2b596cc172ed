"""What watches of the fake API server see of its changes, and selectors."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sagepool_kube.api import EventType, Kind, WatchEvent

Json: TypeAlias = dict[str, Any]

BOOKMARK: Final = Kind("", "", "", "bookmarks")
"""Kind of a change that is only a bookmark."""


@dataclass(frozen=True)
class Change:
    """A change of the fake's world; both states absent in a bookmark."""

    version: int
    kind: Kind
    before: Json | None
    after: Json | None


def bookmark_of(kind: Kind, version: int) -> WatchEvent:
    """A bookmark event."""
    meta = {"resourceVersion": str(version)}
    obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}
    return WatchEvent("BOOKMARK", obj)


def event_of(change: Change, kind: Kind, matches: Callable[[Json], bool]) -> WatchEvent | None:
    """What a watch sees: an object that stops matching is deleted for it."""
    if change.kind == BOOKMARK:
        return bookmark_of(kind, change.version)
    if change.kind != kind:
        return None
    was = change.before is not None and matches(change.before)
    now = change.after is not None and matches(change.after)
    if not was and not now:
        return None
    obj = copy.deepcopy(change.after or change.before or {})
    obj["metadata"]["resourceVersion"] = str(change.version)
    type_: EventType = "DELETED" if not now else "MODIFIED" if was else "ADDED"
    return WatchEvent(type_, obj)


def matcher(kind: Kind, namespace: str | None, labels: str, fields: str) -> Callable[[Json], bool]:
    """A test of an object; selectors are `a=b,c` lists of equality (labels: existence too)."""
    wanted_labels = [term.partition("=") for term in labels.split(",") if term]
    wanted_fields = [term.partition("=") for term in fields.split(",") if term]

    def matches(obj: Json) -> bool:
        if namespace is not None and obj["metadata"].get("namespace") != namespace:
            return False
        have: Mapping[str, str] = obj["metadata"].get("labels") or {}
        if any(key not in have or (eq and have[key] != value) for key, eq, value in wanted_labels):
            return False
        return all(_at(obj, path) == value for path, _, value in wanted_fields)

    return matches


def _at(obj: Json, path: str) -> object:
    node: Any = obj
    for key in path.split("."):
        node = node.get(key, "") if isinstance(node, dict) else ""
    return node
