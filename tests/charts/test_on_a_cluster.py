"""The rendered objects, shown to a real API server with strict validation; nothing is stored."""

import json
from typing import Any

import pytest

from chart_render import pod_specs, render
from kubectl import Kubectl

pytestmark = pytest.mark.cluster


def test_the_api_server_takes_every_object(namespace: Kubectl, values: dict[str, Any]) -> None:
    objects = render(values)
    for obj in objects:
        if "namespace" in obj["metadata"]:
            obj["metadata"]["namespace"] = namespace.namespace
    namespace.run(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "--filename=-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
    )


def test_pods_are_admitted_where_restricted_pod_security_is_enforced(
    namespace: Kubectl, values: dict[str, Any]
) -> None:
    namespace.run(
        "label", "namespace", namespace.namespace, "pod-security.kubernetes.io/enforce=restricted"
    )
    for number, spec in enumerate(pod_specs(render(values))):
        spec.pop("serviceAccountName", None)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"try-{number}"},
            "spec": spec,
        }
        namespace.run("create", "--dry-run=server", "--filename=-", stdin=json.dumps(pod))
