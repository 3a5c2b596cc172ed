"""Values that the chart is tried with."""

from pathlib import Path
from typing import Any

import pytest

VARIATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "one namespace": {"operator.scope": "namespace"},
    "one operator": {"operator.replicas": 1},
    "everything set": {
        "image": {"repository": "registry.example/sagepool", "tag": "9.9", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "crds.keep": False,
        "operator": {
            "logLevel": "debug",
            "logFormat": "text",
            "defaultImages": {"vllm": "v:1", "teiGpu": "g:1", "teiCpu": "c:1"},
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "system-cluster-critical",
            "podAnnotations": {"example.com/a": "b"},
            "podLabels": {"example.com/c": "d"},
            "extraEnv": [{"name": "SAGEPOOL_OPERATOR_WORKERS", "value": "8"}],
            "networkPolicy": True,
        },
        "nameOverride": "other",
        "fullnameOverride": "another",
    },
    "nothing cluster-wide": {
        "operator.scope": "namespace",
        "crds.enabled": False,
        "userRoles.aggregate": False,
    },
}


@pytest.fixture(params=VARIATIONS.values(), ids=VARIATIONS.keys())
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each of the variations in turn, as `--set-json` takes them."""
    found: dict[str, Any] = request.param
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder runs helm."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.tools)
