"""The Deployment of a group."""

from collections.abc import Mapping
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.pod_template import ENGINE_CONTAINER, WAIT_CONTAINER
from sagepool_crds.pool import Group, InferencePool
from sagepool_kube.api import DEPLOYMENTS
from sagepool_operator.builders import cache, identity

_SETTLE: Final = {"minReadySeconds": 5}
"""A new engine whose pod has no readiness gate (its template is of an earlier version) counts only
after so long: by then routers send to it."""
_IMAGE_PULL_S: Final = 3600
"""GPU images are large and pulled once a node."""


def build_deployment(
    pool: InferencePool,
    group: Group,
    template: Mapping[str, Any],
    notes: Mapping[str, str],
    replicas: int | None,
) -> dict[str, Any]:
    """The Deployment that runs `template`; `notes` become its annotations.

    Without `replicas` the field is left to others: what they set stays, whatever is applied.
    """
    deployment = identity.child(
        pool,
        DEPLOYMENTS,
        names.group_name(pool.metadata.name, group.name),
        identity.group_labels(pool, group),
        spec={
            **({"replicas": replicas} if replicas is not None else {}),
            "selector": {"matchLabels": identity.group_selector(pool, group)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {
                    "maxSurge": group.rollout.max_surge,
                    "maxUnavailable": group.rollout.max_unavailable,
                },
            },
            **({} if template["spec"].get("readinessGates") else _SETTLE),
            "progressDeadlineSeconds": _load_limit_s(template) + _IMAGE_PULL_S + _wait_s(template),
            "revisionHistoryLimit": 3,
            "template": dict(template),
        },
    )
    left = {names.REPLICAS_ANNOTATION: "external"} if replicas is None else {}
    deployment["metadata"]["annotations"] = {**notes, **left}
    return deployment


def _wait_s(template: Mapping[str, Any]) -> int:
    """How long its pods may wait for their model."""
    containers = template["spec"].get("initContainers") or ()
    waits = any(container["name"] == WAIT_CONTAINER for container in containers)
    return cache.WAIT_LIMIT_S if waits else 0


def _load_limit_s(template: Mapping[str, Any]) -> int:
    # A container of the group's podTemplate may stand before it.
    containers = template["spec"]["containers"]
    engine = next(one for one in containers if one["name"] == ENGINE_CONTAINER)
    probe = engine["startupProbe"]
    return int(probe["periodSeconds"]) * int(probe["failureThreshold"])
