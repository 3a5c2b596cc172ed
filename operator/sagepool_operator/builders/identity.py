"""Names, labels and owners: how the objects of a pool are recognised."""

from collections.abc import Mapping
from typing import Any, Final

from sagepool_crds import names
from sagepool_crds.pool import Group, InferencePool
from sagepool_kube.api import Kind, Object

ENGINE: Final = "engine"
ROUTER: Final = "router"
CACHE: Final = "cache"
_MANAGED_BY: Final = "sagepool"


def group_selector(pool: InferencePool, group: Group) -> dict[str, str]:
    """Labels that tell a group's engine pods from all others.

    A Deployment's selector can never change, so it holds names only. The role is not in it: a
    group of the same name may come back with another one.
    """
    return {names.POOL_LABEL: pool.metadata.name, names.GROUP_LABEL: group.name}


def router_selector(pool: InferencePool) -> dict[str, str]:
    """Labels that tell a pool's router pods from all others."""
    return {names.POOL_LABEL: pool.metadata.name, names.COMPONENT_LABEL: ROUTER}


def group_labels(pool: InferencePool, group: Group) -> dict[str, str]:
    """Labels of what belongs to a group."""
    return {
        **_labels(pool, ENGINE),
        names.GROUP_LABEL: group.name,
        names.ROLE_LABEL: group.role,
    }


def router_labels(pool: InferencePool) -> dict[str, str]:
    """Labels of what belongs to the router."""
    return _labels(pool, ROUTER)


def cache_labels(pool: InferencePool) -> dict[str, str]:
    """Labels of what belongs to the cache."""
    return _labels(pool, CACHE)


def child(
    pool: InferencePool, kind: Kind, name: str, labels: Mapping[str, str], **content: Any
) -> dict[str, Any]:
    """An object in the pool's namespace that goes when the pool goes."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "namespace": pool.metadata.namespace,
            "labels": dict(labels),
            "ownerReferences": [_owner(pool)],
        },
        **content,
    }


def host(ip: str) -> str:
    """An address as it stands in a URL."""
    return f"[{ip}]" if ":" in ip else ip


def is_owned_by(obj: Object, uid: str) -> bool:
    """Whether the object has that owner."""
    return any(owner["uid"] == uid for owner in obj["metadata"].get("ownerReferences") or ())


def _labels(pool: InferencePool, component: str) -> dict[str, str]:
    return {
        names.POOL_LABEL: pool.metadata.name,
        names.COMPONENT_LABEL: component,
        names.MANAGED_BY_LABEL: _MANAGED_BY,
        "app.kubernetes.io/name": "sagepool",
        "app.kubernetes.io/instance": pool.metadata.name,
    }


def _owner(pool: InferencePool) -> dict[str, Any]:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.POOL_KIND,
        "name": pool.metadata.name,
        "uid": pool.metadata.uid,
        "controller": True,
        # True would ask of us the right to set finalizers on pools.
        "blockOwnerDeletion": False,
    }
