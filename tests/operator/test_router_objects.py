"""The router's objects."""

from typing import Any

import pytest

from crd_objects import cloud_object, pool_object
from sagepool_crds.pool import InferencePool
from sagepool_operator.builders import router
from sagepool_operator.config import Images

OWN = Images(own="own:1")


def pool(**wanted: Any) -> InferencePool:
    return InferencePool.from_object(pool_object(router=wanted))


def test_may_read_its_own_two_kinds_and_nothing_else() -> None:
    _, role, binding = router.build_access(pool())
    assert role["rules"] == [
        {
            "apiGroups": ["sagepool.dev"],
            "resources": ["inferencepools", "inferenceinstances"],
            "verbs": ["get", "list", "watch"],
        }
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["namespace"] == "default"


def test_runs_restricted_and_spread_over_nodes() -> None:
    spec = router.build_deployment(pool(), OWN)["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"


def test_image_is_pulled_as_the_operator_is_told() -> None:
    images = Images(own="own:1", pull_policy="Always", pull_secrets=("a", "b"))
    spec = router.build_deployment(pool(), images)["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == "own:1"
    assert spec["containers"][0]["imagePullPolicy"] == "Always"
    assert spec["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]


def test_image_is_pulled_with_the_secrets_of_its_service_account_by_default() -> None:
    spec = router.build_deployment(pool(), OWN)["spec"]["template"]["spec"]
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert "imagePullSecrets" not in spec


def test_is_told_its_pool_and_how_long_it_may_finish() -> None:
    spec = router.build_deployment(pool(), OWN)["spec"]["template"]["spec"]
    args = dict(a.removeprefix("--").split("=") for a in spec["containers"][0]["args"])
    assert args["pool"] == "default/rag"
    assert args["source"] == "kubernetes"
    assert int(args["grace-seconds"]) < spec["terminationGracePeriodSeconds"]


def test_resources_and_replicas_come_from_the_pool() -> None:
    built = router.build_deployment(
        pool(replicas=3, resources={"requests": {"cpu": "2"}, "limits": {}}), OWN
    )
    assert built["spec"]["replicas"] == 3
    container = built["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "2"}


@pytest.mark.parametrize(
    ("port", "url"),
    [(80, "http://rag-router.default.svc/v1"), (8080, "http://rag-router.default.svc:8080/v1")],
)
def test_endpoint_is_the_services_address(port: int, url: str) -> None:
    wanted = pool(service={"type": "NodePort", "port": port})
    assert router.endpoint(wanted) == url
    spec = router.build_service(wanted)["spec"]
    assert (spec["type"], spec["ports"][0]["port"]) == ("NodePort", port)


def template_of(**spec: Any) -> dict[str, Any]:
    wanted = InferencePool.from_object(pool_object(**spec))
    found: dict[str, Any] = router.build_deployment(wanted, OWN)["spec"]["template"]["spec"]
    return found


def test_pool_without_keys_mounts_none() -> None:
    spec = template_of()
    assert [v["name"] for v in spec["volumes"]] == ["tmp"]
    assert not any("key" in a for a in spec["containers"][0]["args"])


def test_keys_of_clients_are_mounted_for_the_router_alone() -> None:
    spec = template_of(router={"auth": {"apiKeysSecret": "rag-keys"}})
    (container,) = spec["containers"]
    assert spec["volumes"][1:] == [
        {"name": "api-keys", "secret": {"secretName": "rag-keys", "defaultMode": 0o440}}
    ]
    assert container["volumeMounts"][1:] == [
        {"name": "api-keys", "mountPath": "/etc/sagepool/api-keys", "readOnly": True}
    ]
    assert "--api-keys=/etc/sagepool/api-keys" in container["args"]
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]


@pytest.mark.parametrize("source", ["auto", "cloud", "local"])
def test_providers_key_is_mounted_as_one_file_whatever_the_source(source: str) -> None:
    """So that another source needs no new router pods."""
    spec = template_of(source=source, cloud=cloud_object())
    (container,) = spec["containers"]
    secret = {"name": "provider", "items": [{"key": "token", "path": "api-key"}]}
    assert spec["volumes"][1:] == [
        {
            "name": "cloud",
            "projected": {"sources": [{"secret": secret}], "defaultMode": 0o440},
        }
    ]
    assert container["volumeMounts"][1:] == [
        {"name": "cloud", "mountPath": "/etc/sagepool/cloud", "readOnly": True}
    ]
    assert "--cloud-api-key-file=/etc/sagepool/cloud/api-key" in container["args"]
