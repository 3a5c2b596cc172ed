"""Whether a live object still is what we want it to be. Pure.

An apply that changes nothing is a request all the same, so the cached object is compared first.
Two questions are asked. Did *we* change our mind? The digest of the object as we last applied it
stands in an annotation; it also covers fields that we no longer set, which a server-side apply
takes away. Did *somebody else* change a field that we set? Every field of ours must be found in
the live object; what others added there does not matter.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from sagepool_crds.quantity import read_quantity
from sagepool_kube.api import Object

APPLIED_ANNOTATION: Final = "sagepool.dev/applied"
"""Digest of the object as we last applied it."""

_ITEM_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("name", "containerPort", "port"),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeDevices": ("devicePath",),
    "hostAliases": ("ip",),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
    "endpoints": ("role",),
}
"""Lists that the API server merges item by item, and what tells their items apart."""
_SETS: Final = frozenset({"models"})
_QUANTITIES: Final = frozenset({"requests", "limits"})
_QUANTITY: Final = frozenset({"sizeLimit", "divisor"})
_ZERO_IS_ABSENT: Final = frozenset(
    {"hostNetwork", "hostPID", "hostIPC", "stdin", "stdinOnce", "tty", "readOnly"}
    | {"initialDelaySeconds", "hostPort"}
)
"""Fields of a pod that the server leaves out where they are false or 0."""


def digest(value: object) -> str:
    """A short digest of a JSON value, the same for equal values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def seal(obj: Object) -> dict[str, Any]:
    """The object with the digest of itself in an annotation."""
    meta = obj["metadata"]
    annotations = {**meta.get("annotations", {}), APPLIED_ANNOTATION: digest(obj)}
    return {**obj, "metadata": {**meta, "annotations": annotations}}


def has_drifted(wanted: Object, live: Object) -> bool:
    """Whether `live` lacks something of `wanted` (a sealed object), or was applied otherwise."""
    return not _covers(wanted, live, "")


def _covers(wanted: object, live: object, field: str) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and _covers_mapping(wanted, live, field)
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return isinstance(live, Sequence) and _covers_list(wanted, live, field)
    if field in _QUANTITY and wanted is not None:
        return _amount(wanted) == _amount(live)
    return wanted == live


def _covers_mapping(wanted: Mapping[str, object], live: Mapping[str, object], field: str) -> bool:
    if field in _QUANTITIES:
        return all(k in live and _amount(v) == _amount(live[k]) for k, v in wanted.items())
    return all(
        # The server leaves empty values out.
        _covers(value, live[key], key)
        if key in live
        else value in ("", {}, []) or (not value and key in _ZERO_IS_ABSENT)
        for key, value in wanted.items()
    )


def _covers_list(wanted: Sequence[object], live: Sequence[object], field: str) -> bool:
    if field in _SETS:
        return set(wanted) <= set(live)
    keys = _ITEM_KEYS.get(field)
    if keys is None:
        return len(wanted) == len(live) and all(
            _covers(a, b, "") for a, b in zip(wanted, live, strict=True)
        )
    found = {_identity(item, keys): item for item in live}
    return all(_covers(item, found.get(_identity(item, keys)), "") for item in wanted)


def _identity(item: object, keys: tuple[str, ...]) -> tuple[object, ...]:
    return tuple(item.get(key) for key in keys) if isinstance(item, Mapping) else (item,)


def _amount(quantity: object) -> Decimal | str:
    """A Kubernetes quantity as a number; what is none stays as it is."""
    number = read_quantity(str(quantity))
    return str(quantity) if number is None else number
