"""Objects and waits for tests of the Kubernetes client, on the fake and on a real API server."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sagepool_kube.api import Kind, KubeApi
from sagepool_kube.errors import NotFound

Json: TypeAlias = dict[str, Any]

NAMESPACES: Final = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
CONFIG_MAPS: Final = Kind("", "v1", "ConfigMap", "configmaps")


@dataclass(frozen=True)
class World:
    """An API server and a namespace to play in."""

    api: KubeApi
    namespace: str


def config_map(name: str, **data: str) -> Json:
    """A ConfigMap for `create` and `apply`."""
    return {"metadata": {"name": name}, "data": data}


def instance(name: str, pool: str = "rag", *, labels: dict[str, str] | None = None) -> Json:
    """An InferenceInstance for `create` and `apply`."""
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {
            "poolRef": pool,
            "group": "chat",
            "engine": "simulator",
            "endpoints": [{"role": "llm", "url": "http://10.0.0.7:8000", "models": ["m"]}],
        },
    }


def deployment(name: str, *, image: str = "engine:1", env: dict[str, str] | None = None) -> Json:
    """A Deployment for `create` and `apply`."""
    labels = {"app": name}
    container = {
        "name": "engine",
        "image": image,
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
    }
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def condition(type_: str, status: str = "True", reason: str = "Tested") -> Json:
    """A condition of a status."""
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


async def until(holds: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Wait for a condition. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while not holds():  # noqa: ASYNC110 - the condition is a plain function of any state
            await asyncio.sleep(0.005)


async def until_gone(
    api: KubeApi, kind: Kind, namespace: str, name: str, limit_s: float = 20.0
) -> None:
    """Wait until an object is deleted. Raises TimeoutError."""
    async with asyncio.timeout(limit_s):
        while True:
            try:
                await api.get(kind, namespace, name)
            except NotFound:
                return
            await asyncio.sleep(0.05)
