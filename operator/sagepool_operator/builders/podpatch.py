"""A strategic-merge patch over a pod template. Pure.

Source: Kubernetes' `k8s.io/apimachinery/pkg/util/strategicpatch` (`mergeMap`, `mergeSlice`,
`normalizeElementOrder`), with the merge keys that the API server publishes: the same document from
which the CRD's schema of `podTemplate` is made (`sagepool_crds.pod_template`). A test holds the
results against those of a real API server.

Own code, because the two ways to have it done by others do not serve: the API server merges only
into an object that it stores, by a request that the pure planner cannot make, and the official
client has no merge.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from sagepool_crds.core_schema import MERGE_KEY
from sagepool_crds.pod_template import PATCH, RETAIN_KEYS, recorded

Node: TypeAlias = dict[str, Any]
_DIRECTIVES: Final = (PATCH, RETAIN_KEYS)
_NOTHING: Final[Mapping[str, Any]] = {}


def merge(template: Mapping[str, Any], patch: Mapping[str, Any]) -> Node:
    """The pod template with the patch merged in, both `{metadata, spec}`; neither is changed.

    Objects are merged field by field, lists that have a merge key item by item (containers by name,
    env by name, volumeMounts by mountPath), all other lists are replaced. `$patch: delete` in an
    item takes it away, `$patch: replace` in an object takes its former fields away, `$retainKeys`
    in an item all fields that it does not list. Items that only the patch has come where the patch
    has them: before those that it does not name.
    """
    return _merge_objects(template, patch, recorded())


def _merge_objects(
    original: Mapping[str, Any], patch: Mapping[str, Any], schema: Mapping[str, Any]
) -> Node:
    if patch.get(PATCH) == "replace":
        original = _NOTHING
    kept = patch.get(RETAIN_KEYS)
    merged = {key: value for key, value in original.items() if kept is None or key in kept}
    for key, value in patch.items():
        if key not in _DIRECTIVES:
            merged[key] = _merge_values(merged.get(key), value, _field(schema, key))
    return merged


def _merge_values(original: Any, value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return _merge_objects(original or {}, value, schema)
    if isinstance(value, Sequence) and MERGE_KEY in schema:
        return _merge_lists(original or (), value, schema[MERGE_KEY], schema["items"])
    return value


def _merge_lists(
    original: Sequence[Node], patch: Sequence[Node], key: str, schema: Mapping[str, Any]
) -> list[Node]:
    gone = {item[key] for item in patch if item.get(PATCH) == "delete"}
    had = {item[key]: item for item in original if item[key] not in gone}
    given = {
        item[key]: _merge_objects(had.get(item[key], {}), item, schema)
        for item in patch
        if item[key] not in gone
    }
    return _in_order([item[key] for item in original], had, given)


def _in_order(
    order: Sequence[Any], had: Mapping[Any, Node], given: Mapping[Any, Node]
) -> list[Node]:
    """The items of the patch in its order, those that it does not name in theirs.

    Where an item of each could come next, the one goes first that stood before the other; where
    they did not both stand there, the patch's.
    """
    left = [name for name in had if name not in given]
    merged: list[Node] = []
    for name, item in given.items():
        while left and name in had and order.index(left[0]) < order.index(name):
            merged.append(had[left.pop(0)])
        merged.append(item)
    return [*merged, *(had[name] for name in left)]


def _field(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The schema of a field; of what has none of its own, that of a map's values."""
    found: Mapping[str, Any] = schema.get("properties", _NOTHING).get(name, _NOTHING)
    return found or schema.get("additionalProperties", _NOTHING)
