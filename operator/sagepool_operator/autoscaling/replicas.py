"""How many pods a group's Deployment is to ask for, and whose the number is. Pure."""

from dataclasses import dataclass
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.pool import Group, InferencePool
from sagepool_kube.api import DEPLOYMENTS, Object
from sagepool_operator.autoscaling.decision import Decision

_OF_THE_SERVER: Final = 1
"""What the API server fills in where a Deployment says nothing."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many pods a group should have."""

    count: int
    is_ours: bool = True
    """The operator sets the number; else others do, and the operator reads it."""
    reason: str = ""
    """Why, where the spec does not say so by itself."""


def replicas_of(
    pool: InferencePool, group: Group, live: Object | None, decision: Decision | None
) -> Replicas:
    """What the group's Deployment should ask for.

    Where the group is scaled, the live Deployment is where the number stands: no decision means
    that it stays. So nothing is lost when the operator starts anew.

    Args:
        pool: whose group it is.
        group: of its spec.
        live: its Deployment; None: there is none yet.
        decision: of the autoscaler; None: it has none that is not done yet.
    """
    if pool.spec.suspend or pool.spec.source == "cloud":
        return Replicas(0)
    scaling = group.scaling
    if scaling is None:
        return Replicas(1 if group.replicas is None else group.replicas)
    if scaling.is_external:
        return Replicas(_OF_THE_SERVER if live is None else live_count(live), is_ours=False)
    count = scaling.least if live is None else live_count(live)
    if decision is not None:
        count = decision.replicas
    reason = decision.reason if decision is not None else "minReplicas and maxReplicas"
    return Replicas(min(max(count, scaling.least), scaling.most), reason=reason)


def live_count(deployment: Object) -> int:
    """What a Deployment asks for now."""
    return int(deployment["spec"].get("replicas", _OF_THE_SERVER))


def hand_over(live: Object) -> dict[str, Any] | None:
    """What has to be applied as `SCALE_MANAGER` before the operator may leave replicas to others.

    A field that its only owner stops applying is removed, and the API server would fill in 1. So
    another manager takes the present number first; whoever scales later takes it over from that
    one. Nothing has to be kept of a Deployment at zero (a suspended pool): it begins with 1.

    Returns:
        None when there is nothing to hand over, or it has been.
    """
    meta = live["metadata"]
    annotations = meta.get("annotations") or {}
    if annotations.get(names.REPLICAS_ANNOTATION) == "external" or not live_count(live):
        return None
    return {
        "apiVersion": DEPLOYMENTS.api_version,
        "kind": DEPLOYMENTS.kind,
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "spec": {"replicas": live_count(live)},
    }
