"""A pool in the cluster: written, changed, looked at, waited for."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2e_waiting import wait_until
from kubectl import Kubectl
from sagepool_crds import names

CHAT_MODEL = "qwen2.5-7b"
CHAT_ALIAS = "gpt-4o-mini"
EMBEDDING_MODEL = "bge-m3"


def build_chat_group(**more: Any) -> dict[str, Any]:
    """A group of one simulator for chat; `more` are further fields of the group."""
    return {
        "name": "chat",
        "role": "llm",
        "engine": {"type": "simulator"},
        "model": {"name": CHAT_MODEL, "aliases": [CHAT_ALIAS]},
        "replicas": 1,
        **more,
    }


def build_embedding_group(**more: Any) -> dict[str, Any]:
    """A group of one simulator for embeddings; `more` are further fields of the group."""
    return {
        "name": "embed",
        "role": "embedding",
        "engine": {"type": "simulator"},
        "model": {"name": EMBEDDING_MODEL},
        "replicas": 1,
        **more,
    }


def build_pool(
    *groups: dict[str, Any], name: str = "rag", routers: int = 1, **more: Any
) -> dict[str, Any]:
    """A pool, by default with one chat engine and one for embeddings; `more` are spec fields."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.POOL_KIND,
        "metadata": {"name": name},
        "spec": {
            "groups": [*(groups or (build_chat_group(), build_embedding_group()))],
            "router": {
                "replicas": routers,
                # Little, so that many pools find a place on a small machine.
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
            },
            **more,
        },
    }


@dataclass(frozen=True)
class Pool:
    """A pool by its name."""

    kubectl: Kubectl
    """In the pool's namespace."""
    name: str = "rag"

    @property
    def router_user(self) -> str:
        """Its routers as the API server knows them."""
        return f"system:serviceaccount:{self.kubectl.namespace}:{names.router_name(self.name)}"

    def apply(self, manifest: dict[str, Any]) -> None:
        """`kubectl apply` it."""
        self.kubectl.apply(manifest)

    def change(self, *operations: dict[str, Any]) -> None:
        """`kubectl patch --type json` it."""
        self.kubectl.run(
            "patch", "spool", self.name, "--type=json", f"--patch={json.dumps(operations)}"
        )

    def scale(self, group: int, replicas: int) -> None:
        """Set the replicas of the group with this index."""
        path = f"/spec/groups/{group}/replicas"
        self.change({"op": "add", "path": path, "value": replicas})

    def get(self) -> dict[str, Any]:
        """The object."""
        return self.kubectl.get("spool", self.name)

    def describe(self) -> str:
        """`kubectl describe` it."""
        return self.kubectl.run("describe", "spool", self.name).stdout

    def condition(self, type_: str) -> dict[str, Any]:
        """The condition of that type; empty while there is none."""
        conditions = self.get().get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})

    def is_ready(self) -> bool:
        """Whether the status speaks of the present spec and says Ready."""
        pool = self.get()
        status = pool.get("status", {})
        ready = any(
            c["type"] == names.READY and c["status"] == "True" for c in status.get("conditions", [])
        )
        return ready and status["observedGeneration"] == pool["metadata"]["generation"]

    def wait_ready(self, limit_s: float = 90) -> None:
        """Return when it is Ready and no engine or router is still coming or going."""
        self.wait(self._is_settled, "the pool is not Ready", limit_s)

    def wait(self, holds: Callable[[], object], what: str, limit_s: float = 60) -> None:
        """Return when `holds()`; fails with the pool's own account otherwise."""
        wait_until(holds, what, limit_s, self._account)

    def engines(self, group: str | None = None) -> dict[str, dict[str, Any]]:
        """Pods of the engines, or of one group's, by name."""
        selector = f"{names.POOL_LABEL}={self.name},{names.GROUP_LABEL}"
        pods = self.kubectl.get("pod", "-l", f"{selector}={group}" if group else selector)
        return {pod["metadata"]["name"]: pod for pod in pods["items"]}

    def instances(self) -> dict[str, dict[str, Any]]:
        """InferenceInstances of the pool by name."""
        found = self.kubectl.get("sinst", f"--field-selector=spec.poolRef={self.name}")
        return {instance["metadata"]["name"]: instance for instance in found["items"]}

    def phases(self) -> dict[str, str]:
        """Phase of each instance."""
        return {
            name: instance.get("status", {}).get("phase", "")
            for name, instance in self.instances().items()
        }

    def deployment(self, group: str) -> dict[str, Any]:
        """The Deployment of a group."""
        return self.kubectl.get("deployment", names.group_name(self.name, group))

    def _is_settled(self) -> bool:
        if not self.is_ready():
            return False
        pods = self.kubectl.get("pod", "-l", f"{names.POOL_LABEL}={self.name}")["items"]
        deployments = self.kubectl.get("deployment", "-l", f"{names.POOL_LABEL}={self.name}")
        wanted = sum(d["spec"]["replicas"] for d in deployments["items"])
        return len(pods) == wanted and all(map(_is_serving, pods))

    def _account(self) -> str:
        table = self.kubectl.run("get", "spool,sinst,pod", "-o", "wide").stdout
        status = json.dumps(self.get().get("status", {}), indent=1)
        return f"\n{table}\n{status}"


def _is_serving(pod: dict[str, Any]) -> bool:
    """Whether a pod is ready and stays."""
    ready = any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in pod.get("status", {}).get("conditions", [])
    )
    return ready and "deletionTimestamp" not in pod["metadata"]
