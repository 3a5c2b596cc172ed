"""The InferenceInstance of an engine pod."""

from collections.abc import Iterator
from typing import Any, Final

from sagepool_crds.pool import Group, InferencePool, Role
from sagepool_kube.api import INSTANCES
from sagepool_operator.builders import identity
from sagepool_operator.pods import PodFacts

_PRICE_DIGITS: Final = 6


def build_instance(pool: InferencePool, group: Group, pod: PodFacts) -> dict[str, Any]:
    """The instance: named like the pod, owned by it, gone with it, also while we are away.

    Its engine, models and port are those that the pod was built with: while a change of the group
    is rolled out, pods of the former spec go on serving what they serve.
    """
    obj = identity.child(
        pool,
        INSTANCES,
        pod.name,
        identity.group_labels(pool, group),
        spec={
            "poolRef": pool.metadata.name,
            "group": group.name,
            "engine": pod.engine or group.engine.type,
            "endpoints": [
                {"role": role, "models": [model], **_address(group, pod, role)}
                for role, model in _served(group, pod)
            ],
            "maxConcurrency": group.max_concurrency,
            **_price(group),
        },
    )
    obj["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod.name,
            "uid": pod.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }
    ]
    return obj


def _address(group: Group, pod: PodFacts, role: Role) -> dict[str, str]:
    """None while the pod has none."""
    if not pod.ip:
        return {}
    port = pod.port or group.engine.port
    if role == "embedding":
        port = pod.embedding_port or port
    return {"url": f"http://{identity.host(pod.ip)}:{port}"}


def _served(group: Group, pod: PodFacts) -> Iterator[tuple[Role, str]]:
    """What the pod serves: an endpoint a role."""
    if not pod.model:  # it does not say what it was built with
        yield from ((role, model.name) for role, model in group.served)
    elif group.role == "embedding":
        yield "embedding", pod.embedding_model or pod.model
    else:
        yield "llm", pod.model
        if pod.embedding_model:
            yield "embedding", pod.embedding_model


def _price(group: Group) -> dict[str, float]:
    """What all GPUs of the pod cost."""
    if group.gpu is None or group.gpu.price_per_hour is None:
        return {}
    return {"pricePerHour": round(group.gpu.count * group.gpu.price_per_hour, _PRICE_DIGITS)}
