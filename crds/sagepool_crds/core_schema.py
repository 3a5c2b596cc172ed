"""The schema of a pod template, cut out of what an API server says of itself. Pure.

Source: the document that an API server serves at `/openapi/v2`. Of each field its type is kept
and, for lists that a strategic-merge patch merges item by item, the key that tells items apart
(`x-kubernetes-patch-merge-key`) and whether `$retainKeys` holds there
(`x-kubernetes-patch-strategy`).
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Node: TypeAlias = dict[str, Any]

MERGE_KEY: Final = "x-kubernetes-patch-merge-key"
STRATEGY: Final = "x-kubernetes-patch-strategy"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"

_POD_SPEC: Final = "io.k8s.api.core.v1.PodSpec"
_OBJECT_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_NUMBERS_AS_TEXT: Final = frozenset(
    {
        "io.k8s.apimachinery.pkg.api.resource.Quantity",
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    }
)
"""Texts that may be written as numbers."""
_OF_METADATA: Final = ("labels", "annotations")
"""Of a template's metadata: a Deployment gives its pods nothing else of it."""
_KEPT: Final = ("type", "format", MERGE_KEY, STRATEGY)


def pod_template(openapi: Mapping[str, Any]) -> Node:
    """The schema of a pod template, without references, descriptions, defaults and `required`."""
    definitions: Mapping[str, Any] = openapi["definitions"]
    metadata = definitions[_OBJECT_META]["properties"]
    return {
        "type": "object",
        "properties": {
            "metadata": {
                "type": "object",
                "properties": {name: _node(metadata[name], definitions) for name in _OF_METADATA},
            },
            "spec": _node(definitions[_POD_SPEC], definitions),
        },
    }


def _node(raw: Mapping[str, Any], definitions: Mapping[str, Any]) -> Node:
    if "$ref" in raw:
        name = raw["$ref"].removeprefix("#/definitions/")
        if name in _NUMBERS_AS_TEXT:
            return {INT_OR_STRING: True}
        return _node(definitions[name], definitions)
    node: Node = {key: raw[key] for key in _KEPT if key in raw}
    if "properties" in raw:
        node["properties"] = {
            name: _node(child, definitions) for name, child in sorted(raw["properties"].items())
        }
    for inner in ("items", "additionalProperties"):
        if inner in raw:
            node[inner] = _node(raw[inner], definitions)
    return node
