"""Budgets: how many pods of a kind a node that is drained may take at a time."""

from collections.abc import Mapping
from typing import Any

from sagepool_crds.pool import InferencePool
from sagepool_kube.api import POD_DISRUPTION_BUDGETS
from sagepool_operator.builders import identity


def build_budget(
    pool: InferencePool,
    name: str,
    labels: Mapping[str, str],
    selector: Mapping[str, str],
    max_unavailable: int = 1,
) -> dict[str, Any]:
    """At most `max_unavailable` pods of those selected are evicted at a time, but always one.

    `minAvailable` would block the eviction of a single replica for ever. A pod that is not ready
    serves nobody, so it may always go (AlwaysAllow).
    """
    spec = {
        "maxUnavailable": max(1, max_unavailable),
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": dict(selector)},
    }
    return identity.child(pool, POD_DISRUPTION_BUDGETS, name, labels, spec=spec)
