"""Pods that run Python, beside those of a pool."""

from pathlib import Path
from typing import Any, Final

from kubectl import Kubectl

_SUPPORT: Final = Path(__file__).parent


def pod(kubectl: Kubectl, image: str, name: str, script: str, **spec: Any) -> dict[str, Any]:
    """A pod that runs Python."""
    container = {
        "name": "main",
        "image": image,
        "command": ["python3", "-c", script],
        **spec.pop("container", {}),
    }
    meta = {"name": name, "namespace": kubectl.namespace, "labels": {"app": name}}
    whole = {"restartPolicy": "Never", "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": whole}


def run_as_root(
    kubectl: Kubectl, image: str, name: str, script: str, volume: dict[str, Any]
) -> str:
    """Run Python with a volume at /var/tmp, and return what it printed."""
    container = {
        "volumeMounts": [{"name": "place", "mountPath": "/var/tmp"}],
        "securityContext": {"runAsUser": 0},
    }
    volumes = [{"name": "place", **volume}]
    kubectl.apply(pod(kubectl, image, name, script, container=container, volumes=volumes))
    kubectl.run("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded")
    return kubectl.run("logs", name).stdout


def serve_in_pod(
    kubectl: Kubectl, image: str, name: str, module: str, script: str, data: Path | None = None
) -> str:
    """Serve with a module of tests/support in the namespace; return the address.

    The module is in /srv; `data`, a folder of the node, in /data, which its owner alone may read.
    """
    kubectl.run("create", "configmap", name, f"--from-file={_SUPPORT / module}")
    mounts = [{"name": "program", "mountPath": "/srv"}]
    volumes: list[dict[str, Any]] = [{"name": "program", "configMap": {"name": name}}]
    container: dict[str, Any] = {"volumeMounts": mounts}
    if data is not None:
        mounts.append({"name": "data", "mountPath": "/data"})
        volumes.append({"name": "data", "hostPath": {"path": str(data)}})
        container["securityContext"] = {"runAsUser": 0}
    kubectl.apply(pod(kubectl, image, name, script, container=container, volumes=volumes))
    kubectl.run("expose", "pod", name, "--port=8080")
    kubectl.run("wait", f"pod/{name}", "--for=condition=Ready")
    return f"http://{name}.{kubectl.namespace}.svc:8080"
