"""Server-side apply for the fake API server: fields, who owns them, and the merge.

Fields are paths to leaves. Lists that Kubernetes merges by a key are entered by that key; other
lists are one leaf. After the rules of "Server-Side Apply" in Kubernetes' documentation.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str, ...]
Owners: TypeAlias = dict[str, set[Path]]
"""Field manager to the fields that it owns."""

_LIST_KEYS: Final = {
    "conditions": ("type",),
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port", "protocol"),
    "imagePullSecrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ownerReferences": ("uid",),
    "groups": ("name",),
    "models": ("name",),
    "endpoints": ("role",),
    "adapters": ("name",),
}
_ITEM: Final = "[]"


class OwnershipConflict(Exception):
    """Another manager owns a field and has another value there."""


class RepeatedKey(Exception):
    """Two items of a keyed list have the same key."""


def copied(value: Any) -> Any:
    """A copy of a JSON value; copy.deepcopy, which knows more than JSON, is much slower."""
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [copied(item) for item in value]
    return value


def leaves(node: object, path: Path = ()) -> dict[Path, object]:
    """The fields of an object, by path; an empty map or list is a leaf too.

    Raises:
        RepeatedKey: a keyed list is none.
    """
    if isinstance(node, dict) and (node or not path):
        found: dict[Path, object] = {}
        for key, value in node.items():
            found |= leaves(value, (*path, key))
        return found
    if isinstance(node, list) and node and path:
        keyed = _keyed(path[-1], node)
        if keyed is not None:
            found = {}
            for key, value in keyed.items():
                found |= leaves(value, (*path, key))
            return found
    return {path: node}


def merge_apply(base: Json, part: Json, owners: Owners, manager: str, *, force: bool) -> Json:
    """`base` with `part` applied; `owners` is brought up to date in place.

    Raises:
        OwnershipConflict: without `force`, another manager owns a field with another value.
    """
    have, want = leaves(base), leaves(part)
    is_empty = {path for path, value in want.items() if value in ({}, [])}
    others = {name: paths for name, paths in owners.items() if name != manager}
    taken = {
        (path, name)
        for name, paths in others.items()
        for path in (paths & want.keys()) - is_empty
        if have.get(path) != want[path]
    }
    if taken and not force:
        path, name = sorted(taken)[0]
        raise OwnershipConflict(f"conflict with {name!r}: .{'.'.join(path)}")
    for path, name in taken:
        owners[name].discard(path)
    new = copied(base)
    for path in sorted(owners.get(manager, set()) - want.keys(), key=_is_key):
        if path in have and not any(path in paths for paths in others.values()):
            _remove(new, path)
    for path, value in want.items():
        _set(new, path, copied(value))
    owners[manager] = set(want)
    return new


def _keyed(name: str, items: list[Any]) -> dict[str, Json] | None:
    """The items by their merge key as a path step; None when the list is one leaf."""
    keys = _LIST_KEYS.get(name)
    if keys is None or not all(isinstance(item, dict) for item in items):
        return None
    keyed = {_step(keys, item): item for item in items}
    if len(keyed) < len(items):
        raise RepeatedKey(f".{name}: duplicate entries for key {keys}")
    return keyed


def _step(keys: tuple[str, ...], item: Json) -> str:
    return _ITEM + json.dumps({key: item[key] for key in keys if key in item})


def _is_key(path: Path) -> bool:
    """Whether the leaf is what its list item is found by: such leaves are removed last."""
    if len(path) < 3 or not path[-2].startswith(_ITEM):
        return False
    return path[-1] in _LIST_KEYS[path[-3]]


def _child(node: Any, name: str, step: str) -> Any:
    """The child at a step, or None."""
    if not step.startswith(_ITEM):
        return node.get(step) if isinstance(node, dict) else None
    keys = _LIST_KEYS[name]
    return next((item for item in node or () if _step(keys, item) == step), None)


def _set(obj: Json, path: Path, value: object) -> None:
    node: Any = obj
    for at, step in enumerate(path[:-1]):
        child = _child(node, path[at - 1] if at else "", step)
        is_container = isinstance(child, (list if path[at + 1].startswith(_ITEM) else dict))
        if not is_container:
            child = [] if path[at + 1].startswith(_ITEM) else {}
            if step.startswith(_ITEM):
                child = json.loads(step.removeprefix(_ITEM))
                node.append(child)
            else:
                node[step] = child
        node = child
    last = path[-1]
    if value in ({}, []) and isinstance(node.get(last), type(value)):
        return  # an empty map or list owns nothing in it
    node[last] = value


def _remove(obj: Json, path: Path) -> None:
    """Remove a leaf, and what it leaves empty."""
    nodes: list[Any] = [obj]
    for at, step in enumerate(path[:-1]):
        child = _child(nodes[-1], path[at - 1] if at else "", step)
        if child is None:
            return
        nodes.append(child)
    if _is_key(path) and any(not _is_key((*path[:-1], field)) for field in nodes[-1]):
        return  # somebody else has a field in this item: it stays, and needs its key
    if _is_key(path):
        nodes[-1].clear()  # keys go together: without one of them the item could not be found
    else:
        nodes[-1].pop(path[-1], None)
    for at in range(len(path) - 2, 0, -1):
        parent, child = nodes[at], nodes[at + 1]
        if child:
            return
        if isinstance(parent, list):
            parent.remove(child)
        else:
            del parent[path[at]]
