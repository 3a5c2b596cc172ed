"""The sidecar of an engine pod, and the hook by which the kubelet asks it."""

from typing import Any, Final

from sagepool_crds.pod_template import SIDECAR_CONTAINER
from sagepool_crds.pool import Group
from sagepool_engines.dialects import DIALECTS
from sagepool_operator.builders import security
from sagepool_operator.config import Images
from sagepool_operator.engines.processes import processes_of

_PORTS: Final = (9091, 9092, 9093)
"""The others are for pods whose engines listen on the ones before."""


def build_container(group: Group, images: Images) -> dict[str, Any]:
    """A native sidecar: it starts before the engine and lives until the engine has ended."""
    port = _port(group)
    return {
        "name": SIDECAR_CONTAINER,
        "image": images.own,
        "imagePullPolicy": images.pull_policy,
        "restartPolicy": "Always",
        "command": ["sagepool-sidecar"],
        "args": [
            f"--port={port}",
            *(f"--engine-port={port}" for port in _engine_ports(group)),
            f"--drain-seconds={group.rollout.drain_seconds}",
            *_metrics(group),
        ],
        "ports": [{"name": "sidecar", "containerPort": port, "protocol": "TCP"}],
        "resources": {
            "requests": {"cpu": "5m", "memory": "32Mi"},
            "limits": {"memory": "128Mi"},
        },
        "securityContext": {**security.restricted_container(), **security.own_user()},
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": port, "scheme": "HTTP"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
    }


def build_hook(group: Group) -> dict[str, Any]:
    """The engine's preStop: it is asked to stop when the sidecar has answered."""
    return {"httpGet": {"path": "/drain", "port": _port(group), "scheme": "HTTP"}}


def _metrics(group: Group) -> list[str]:
    dialect = DIALECTS[group.engine.type]
    flags = {
        "running": dialect.running_metrics,
        "waiting": dialect.waiting_metrics,
        "usage": dialect.usage_metrics,
        "progress": dialect.progress_metrics,
    }
    found = [f"--{flag}={metric}" for flag, metrics in flags.items() for metric in sorted(metrics)]
    return [f"--metrics-path={dialect.metrics_path}", *found]


def _port(group: Group) -> int:
    return next(port for port in _PORTS if port not in _engine_ports(group))


def _engine_ports(group: Group) -> tuple[int, ...]:
    return tuple(process.engine.port for process in processes_of(group))
