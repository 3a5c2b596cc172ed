"""The objects that the demo itself puts into the cluster. Pure."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Manifest: TypeAlias = dict[str, Any]

CLIENT: Final = "demo-client"
"""Name of the client's Job."""
CODE: Final = "demo-client-code"
"""Name of the ConfigMap with the client's program."""
TEXT: Final = "demo-client-text"
"""Name of the ConfigMap with the text that it searches."""

_USER: Final = 65532
_PACKAGE: Final = "sagepool_demo"


def build_namespace(name: str) -> Manifest:
    """A namespace whose pods must all keep to the restricted security standard."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }


def build_files(name: str, files: Mapping[str, str]) -> Manifest:
    """A ConfigMap with files by their names."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": dict(files),
    }


def build_client(
    image: str, url: str, text: str, models: tuple[str, str], clients: int
) -> Manifest:
    """The client's Job: one pod, one try.

    Args:
        image: built from the Dockerfile's target `demo`.
        url: base URL of the endpoint, with /v1.
        text: name of the file in the ConfigMap `TEXT`.
        models: the names to send for chat and for embeddings.
        clients: how many ask at the same time.
    """
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_build_container(image, url, text, models, clients)],
        "volumes": [
            {"name": "code", "configMap": {"name": CODE}},
            {"name": "text", "configMap": {"name": TEXT}},
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": CLIENT},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def _build_container(
    image: str, url: str, text: str, models: tuple[str, str], clients: int
) -> Manifest:
    chat_model, embedding_model = models
    return {
        "name": "client",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", f"{_PACKAGE}.client"],
        "args": [
            f"--url={url}",
            f"--text=/text/{text}",
            f"--chat-model={chat_model}",
            f"--embedding-model={embedding_model}",
            f"--clients={clients}",
        ],
        # Its program comes by ConfigMap: the image has the openai package and changes seldom.
        "env": [{"name": "PYTHONPATH", "value": "/code"}],
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "code", "mountPath": f"/code/{_PACKAGE}", "readOnly": True},
            {"name": "text", "mountPath": "/text", "readOnly": True},
        ],
    }
