"""What the chart renders, over variations of its values."""

import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart_render import (
    CHART,
    NAMESPACE,
    RELEASE,
    environment,
    helm,
    is_for_crds,
    of_kind,
    pod_specs,
    render,
    the,
)
from sagepool_crds.admission import admit
from sagepool_crds.crd import build_crds
from sagepool_operator.config import LeaseName, read_settings

CLUSTER_SCOPED = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}


def test_helm_lint_has_nothing_to_say() -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_chart_and_app_have_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]
    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])


def test_no_object_is_rendered_twice(values: dict[str, Any]) -> None:
    keys = [(obj["kind"], obj["metadata"]["name"]) for obj in render(values)]
    assert sorted(keys) == sorted(set(keys))


def test_every_object_says_what_it_belongs_to_and_where_it_goes(values: dict[str, Any]) -> None:
    for obj in render(values):
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "sagepool"
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        namespace = obj["metadata"].get("namespace")
        assert namespace == (None if obj["kind"] in CLUSTER_SCOPED else NAMESPACE)


def test_names_follow_the_release_and_do_not_repeat_the_charts_name() -> None:
    assert the(render(), "Deployment")["metadata"]["name"] == f"{RELEASE}-sagepool-operator"
    objects = render(release="sagepool")
    assert the(objects, "Deployment")["metadata"]["name"] == "sagepool-operator"


def test_names_stay_within_kubernetes_limit() -> None:
    for obj in render({"fullnameOverride": "x" * 40}):
        assert len(obj["metadata"]["name"]) <= 63


def test_two_operators_share_a_lease_in_the_releases_namespace(values: dict[str, Any]) -> None:
    objects = render(values)
    deployment = the(objects, "Deployment")
    assert deployment["spec"]["replicas"] == values.get("operator.replicas", 2)
    lease = read_settings(environment(objects)).lease
    assert lease == LeaseName(NAMESPACE, deployment["metadata"]["name"])


def test_an_upgrade_starts_the_new_operator_before_it_stops_the_old_one() -> None:
    strategy = the(render(), "Deployment")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize(("replicas", "budgets"), [(1, 0), (2, 1), (3, 1)])
def test_a_drained_node_leaves_an_operator_where_there_are_several(
    replicas: int, budgets: int
) -> None:
    objects = render({"operator.replicas": replicas})
    found = of_kind(objects, "PodDisruptionBudget")
    assert [budget["spec"]["maxUnavailable"] for budget in found] == [1] * budgets


def test_selectors_find_the_operators_pod_and_its_health_port(values: dict[str, Any]) -> None:
    objects = render(values)
    deployment, service = the(objects, "Deployment")["spec"], the(objects, "Service")["spec"]
    template = deployment["template"]
    selectors = [deployment["selector"]["matchLabels"], service["selector"]]
    selectors += [
        p["spec"]["podSelector"]["matchLabels"] for p in of_kind(objects, "NetworkPolicy")
    ]
    selectors += [
        b["spec"]["selector"]["matchLabels"] for b in of_kind(objects, "PodDisruptionBudget")
    ]
    selectors += [
        c["labelSelector"]["matchLabels"] for c in template["spec"]["topologySpreadConstraints"]
    ]
    for selector in selectors:
        assert selector.items() <= template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    (port,) = container["ports"]
    assert service["ports"][0]["targetPort"] == port["name"]
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    assert probes == [{"path": "/healthz", "port": port["name"]}] * 3
    settings = read_settings(environment(objects))
    assert settings.liveness_port == port["containerPort"]


def test_labels_of_the_user_do_not_break_the_selector() -> None:
    labels = {"app.kubernetes.io/component": "mine", "team": "a"}
    template = the(render({"operator.podLabels": labels}), "Deployment")["spec"]["template"]
    assert template["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
    assert template["metadata"]["labels"]["team"] == "a"


def test_the_operator_runs_pools_with_its_own_image() -> None:
    settings = read_settings(environment(render()))
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]
    assert settings.images.own == f"ghcr.io/sagepool/sagepool:{project['version']}"
    for spec in pod_specs(render()):
        assert [c["image"] for c in spec["containers"]] == [settings.images.own]


def test_the_operator_understands_every_setting(values: dict[str, Any]) -> None:
    settings = read_settings(environment(render(values)))
    is_namespaced = values.get("operator.scope") == "namespace"
    assert settings.namespace == (NAMESPACE if is_namespaced else None)


def test_values_reach_the_operators_settings() -> None:
    settings = read_settings(
        environment(
            render(
                {
                    "image": {"repository": "r.example/s", "tag": "1", "pullPolicy": "Always"},
                    "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}],
                    "operator.logLevel": "warning",
                    "operator.logFormat": "text",
                    "operator.defaultImages": {"vllm": "v:1", "teiGpu": "g:1", "teiCpu": "c:1"},
                    "operator.extraEnv": [{"name": "SAGEPOOL_OPERATOR_WORKERS", "value": "8"}],
                }
            )
        )
    )
    images = settings.images
    assert (images.own, images.vllm, images.tei_gpu) == ("r.example/s:1", "v:1", "g:1")
    assert images.tei_cpu == "c:1"
    assert (images.pull_policy, images.pull_secrets) == ("Always", ("registry", "mirror"))
    assert (settings.log_level, settings.log_format, settings.workers) == ("WARNING", "text", 8)


def test_services_of_the_namespace_do_not_leak_into_the_settings(values: dict[str, Any]) -> None:
    """A Service called sagepool-operator would become variables SAGEPOOL_OPERATOR_*."""
    assert {spec["enableServiceLinks"] for spec in pod_specs(render(values))} == {False}


def test_pods_keep_to_the_restricted_pod_security_standard(values: dict[str, Any]) -> None:
    for spec in pod_specs(render(values)):
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC", "volumes"} & spec.keys()
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_every_container_states_its_resources() -> None:
    for spec in pod_specs(render()):
        for container in spec["containers"]:
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_only_the_operator_gets_a_token() -> None:
    objects = [obj for obj in render() if not is_for_crds(obj)]
    assert the(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    assert the(objects, "Pod")["spec"]["automountServiceAccountToken"] is False
    operator = the(objects, "Deployment")["spec"]["template"]["spec"]
    assert operator["automountServiceAccountToken"] is True
    assert operator["serviceAccountName"] == the(objects, "ServiceAccount")["metadata"]["name"]


def test_the_helm_test_asks_the_operators_service() -> None:
    objects = render()
    pod, service = the(objects, "Pod"), the(objects, "Service")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    port = service["spec"]["ports"][0]["port"]
    address = f"http://{service['metadata']['name']}.{NAMESPACE}.svc:{port}/healthz"
    assert container["command"][-1] == address
    compile(container["command"][2], "test", "exec")


def test_the_crds_are_those_of_the_package() -> None:
    rendered = {
        crd["spec"]["names"]["plural"]: crd["spec"]
        for crd in of_kind(render(), "CustomResourceDefinition")
    }
    assert rendered == {plural: crd["spec"] for plural, crd in build_crds().items()}


@pytest.mark.parametrize(("keep", "policies"), [(True, {"keep"}), (False, {None})])
def test_crds_outlive_the_release_by_choice(keep: bool, policies: set[str | None]) -> None:
    crds = of_kind(render({"crds.keep": keep}), "CustomResourceDefinition")
    found = {c["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for c in crds}
    assert found == policies


def test_crds_can_be_left_to_somebody_else() -> None:
    assert of_kind(render({"crds.enabled": False}), "CustomResourceDefinition") == []


def test_a_release_can_do_without_anything_cluster_wide() -> None:
    objects = render(
        {"operator.scope": "namespace", "crds.enabled": False, "userRoles.aggregate": False}
    )
    assert {obj["kind"] for obj in objects} & CLUSTER_SCOPED == set()


def test_the_network_policy_is_a_choice() -> None:
    assert of_kind(render(), "NetworkPolicy") == []
    policy = the(render({"operator.networkPolicy": True}), "NetworkPolicy")["spec"]
    assert policy["ingress"] == [{"ports": [{"port": "health", "protocol": "TCP"}]}]


@pytest.fixture
def notes(tmp_path: Path, values: dict[str, Any]) -> str:
    """What `helm install` prints; `helm template` leaves it out, so a ConfigMap carries it."""
    chart = tmp_path / "sagepool"
    shutil.copytree(CHART, chart)
    shutil.copy(chart / "templates" / "NOTES.txt", chart / "files" / "notes.txt")
    (chart / "templates" / "notes.yaml").write_text(
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: notes}\n"
        'data: {notes: {{ tpl (.Files.Get "files/notes.txt") . | toJson }}}\n'
    )
    text: str = the(render(values, chart=chart), "ConfigMap")["data"]["notes"]
    return text


def test_the_notes_name_the_next_commands(notes: str, values: dict[str, Any]) -> None:
    place = NAMESPACE if values.get("operator.scope") == "namespace" else "default"
    for command in (
        f"helm test {RELEASE} --namespace {NAMESPACE}",
        f"kubectl apply --namespace {place} -f -",
        f"kubectl get spool,sinst --namespace {place}",
        f"http://hello-router.{place}.svc/v1",
    ):
        assert command in notes


def test_the_pool_in_the_notes_is_one_that_the_api_server_takes(notes: str) -> None:
    text = notes.partition("<<'YAML'\n")[2].partition("\n   YAML")[0]
    pool = yaml.safe_load(text)
    assert admit(pool)["metadata"]["name"] == "hello"


def test_the_notes_warn_when_uninstalling_would_delete_pools(
    notes: str, values: dict[str, Any]
) -> None:
    assert ("WARNING" in notes) == (values.get("crds.keep") is False)
