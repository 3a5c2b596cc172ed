"""The patch that a group's `podTemplate` is, as the CRD says it: typed, and with its limits.

The fields are those of a real pod template (`pod_template.json`, recorded from an API server), so
that the API server refuses a typing error. None is required but the key of a list's item: a patch
says only what shall be other than the operator builds it.

Of the directives of a strategic-merge patch each is there where it means something:
`$patch: delete` in an item of a merged list, `$patch: replace` in an object, `$retainKeys` in items
that have one source of several (volumes). What the operator, the router and the kubelet have to
rely on in an engine pod is refused with the way out.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final, TypeAlias

from sagepool_crds.core_schema import MERGE_KEY, STRATEGY
from sagepool_crds.markers import Rule, list_map, rules

Node: TypeAlias = dict[str, Any]

PATCH: Final = "$patch"
RETAIN_KEYS: Final = "$retainKeys"
RETAINS: Final = "merge,retainKeys"
ENGINE_CONTAINER: Final = "engine"
EMBEDDING_PORT: Final = "embedding"
"""The port of container engine where a second process in it embeds."""
SIDECAR_CONTAINER: Final = "sidecar"
WAIT_CONTAINER: Final = "model"
"""The init container that waits for a cached model."""

_MOST_CONTAINERS: Final = 16
_LONGEST_NAME: Final = 63
_MOST_LABELS: Final = 64
_KEEPS: Final = ("containers", "initContainers")
"""Lists of which no item may be taken away: all but the operator's are the user's own."""
_ANYTHING: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
_WAYS_TO_ASK: Final = ("httpGet", "exec", "tcpSocket", "grpc")


@cache
def recorded() -> Node:
    """The schema of a pod template with the merge keys of its lists."""
    text = resources.files("sagepool_crds").joinpath("pod_template.json").read_text()
    schema: Node = json.loads(text)["schema"]
    return schema


@cache
def patch_schema() -> Node:
    """The structural schema of `podTemplate`."""
    schema = _patchable(recorded(), "")
    metadata, spec = (schema["properties"][part] for part in ("metadata", "spec"))
    for node in (schema, metadata, spec):
        del node["properties"][PATCH]
    for field in metadata["properties"].values():
        field.update(maxProperties=_MOST_LABELS, **rules(*_of_keys()))
    spec.update(rules(*_of_pod()))
    # Refused by a rule, so that what is in it need not be said.
    spec["properties"]["ephemeralContainers"] = {"type": "array", "items": dict(_ANYTHING)}
    for field in _KEEPS:
        spec["properties"][field]["maxItems"] = _MOST_CONTAINERS
        item = spec["properties"][field]["items"]
        item["properties"][PATCH] = {"type": "string", "enum": ["merge"]}
        item["properties"]["name"]["maxLength"] = _LONGEST_NAME
    spec["properties"]["containers"]["items"].update(rules(*_of_engine()))
    spec["properties"]["initContainers"]["items"].update(rules(*_of_ours()))
    return schema


def _patchable(node: Mapping[str, Any], strategy: str) -> Node:
    """The node as a patch may hold it; `strategy` is that of the list that it is an item of."""
    made: Node = {key: node[key] for key in node if key not in (MERGE_KEY, STRATEGY)}
    if "properties" in node:
        made["properties"] = {n: _patchable(c, "") for n, c in node["properties"].items()}
        action = "delete" if strategy else "replace"
        made["properties"][PATCH] = {"type": "string", "enum": [action]}
        if strategy == RETAINS:
            made["properties"][RETAIN_KEYS] = {"type": "array", "items": {"type": "string"}}
    if MERGE_KEY in node:
        made["items"] = _patchable(node["items"], node[STRATEGY])
        made["items"]["required"] = [node[MERGE_KEY]]
        made.update(list_map(node[MERGE_KEY]))
    elif "additionalProperties" in node:
        made["additionalProperties"] = dict(node["additionalProperties"])
    return made


def _of_keys() -> tuple[Rule, ...]:
    return (
        Rule(
            "self.all(key, !key.startsWith('sagepool.dev/') && key != '$patch')",
            "keys of sagepool.dev/ belong to the operator, which finds its pods by them: choose "
            "another prefix",
        ),
        Rule(
            "self.all(key, key != 'app.kubernetes.io/name' && key != 'app.kubernetes.io/instance' "
            "&& key != 'app.kubernetes.io/component' && key != 'app.kubernetes.io/managed-by')",
            "app.kubernetes.io/name, instance, component and managed-by are set by the operator: "
            "remove them, or choose another key",
        ),
    )


def _refused(field: str, why: str) -> Rule:
    return Rule(f"!has(self.{field})", f"{field} {why}", field_path=f".{field}")


def _of_pod() -> tuple[Rule, ...]:
    return (
        _refused("restartPolicy", "cannot be set: engines are restarted always; remove it"),
        _refused(
            "terminationGracePeriodSeconds",
            "follows from the time to drain: remove it, and set rollout.drainSeconds",
        ),
        _refused(
            "readinessGates",
            "cannot be set: the gate by which routers take an engine in would be lost; remove it",
        ),
        _refused("activeDeadlineSeconds", "would end engines that work: remove it"),
        _refused(
            "ephemeralContainers", "cannot be in a template: remove it, and use kubectl debug"
        ),
    )


def _of_engine() -> tuple[Rule, ...]:
    other = f"self.name != '{ENGINE_CONTAINER}'"
    probes = (
        Rule(
            f"{other} || !has(self.{probe}) || !("
            + " || ".join(f"has(self.{probe}.{way})" for way in _WAYS_TO_ASK)
            + ")",
            f"{probe} of container engine asks the engine itself: change its times and thresholds "
            "only",
            field_path=f".{probe}",
        )
        for probe in _PROBES
    )
    return (
        Rule(
            f"{other} || !has(self.image)",
            "image of container engine has a field of its own: remove it, and set engine.image",
            field_path=".image",
        ),
        Rule(
            f"{other} || !has(self.ports)",
            "ports of container engine are where routers and probes find it: remove them, and set "
            "engine.port",
            field_path=".ports",
        ),
        Rule(
            f"{other} || !has(self.lifecycle)",
            "lifecycle of container engine is how it finishes its requests: remove it, and set "
            "rollout.drainSeconds",
            field_path=".lifecycle",
        ),
        *probes,
    )


def _of_ours() -> tuple[Rule, ...]:
    others = f"(self.name != '{SIDECAR_CONTAINER}' && self.name != '{WAIT_CONTAINER}')"
    fields = ("image", "command", "args", "ports", "restartPolicy", "lifecycle", "livenessProbe")
    return (
        Rule(
            f"{others} || !({' || '.join(f'has(self.{field})' for field in fields)})",
            "containers sidecar and model are the operator's: their resources, env, volumeMounts "
            "and securityContext can be changed; remove the rest, or give a container of your own "
            "another name",
            field_path=".name",
        ),
    )
