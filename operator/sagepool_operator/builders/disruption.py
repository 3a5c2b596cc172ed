"""Budgets: a drained node takes one pod of a kind at a time."""

from collections.abc import Mapping
from typing import Any

from sagepool_crds.pool import InferencePool
from sagepool_kube.api import POD_DISRUPTION_BUDGETS
from sagepool_operator.builders import identity


def build_budget(
    pool: InferencePool, name: str, labels: Mapping[str, str], selector: Mapping[str, str]
) -> dict[str, Any]:
    """At most one pod of those selected is evicted at a time.

    `minAvailable` would block the eviction of a single replica for ever. A pod that is not ready
    serves nobody, so it may always go (AlwaysAllow).
    """
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": dict(selector)},
    }
    return identity.child(pool, POD_DISRUPTION_BUDGETS, name, labels, spec=spec)
