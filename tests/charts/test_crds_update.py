"""What a release does before Helm looks at the CustomResourceDefinitions that are there."""

from typing import Any

import pytest

from chart_render import NAMESPACE, is_for_crds, of_kind, render, the
from sagepool_crds.crd import build_crds
from sagepool_operator.cli import main


@pytest.fixture
def objects() -> list[dict[str, Any]]:
    return [obj for obj in render() if is_for_crds(obj)]


def test_it_is_done_before_and_gone_after_each_change_of_a_release(
    objects: list[dict[str, Any]],
) -> None:
    kinds = ["ClusterRole", "ClusterRoleBinding", "Job", "ServiceAccount"]
    assert sorted(obj["kind"] for obj in objects) == kinds
    for obj in objects:
        notes = obj["metadata"]["annotations"]
        assert notes["helm.sh/hook"] == "pre-install,pre-upgrade,pre-rollback"
        assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    weights = {
        obj["kind"]: int(obj["metadata"]["annotations"]["helm.sh/hook-weight"]) for obj in objects
    }
    assert max(weights, key=weights.__getitem__) == "Job"


def test_its_rights_are_to_change_the_two_and_bound_to_its_own_account(
    objects: list[dict[str, Any]],
) -> None:
    account = the(objects, "ServiceAccount")["metadata"]["name"]
    (rule,) = the(objects, "ClusterRole")["rules"]
    assert rule == {
        "apiGroups": ["apiextensions.k8s.io"],
        "resources": ["customresourcedefinitions"],
        "resourceNames": [crd["metadata"]["name"] for crd in build_crds().values()],
        "verbs": ["get", "patch"],
    }
    binding = the(objects, "ClusterRoleBinding")
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
    ]
    assert the(objects, "Job")["spec"]["template"]["spec"]["serviceAccountName"] == account


def test_the_program_knows_its_command(
    objects: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    (container,) = the(objects, "Job")["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["sagepool-operator"]
    with pytest.raises(SystemExit) as ended:
        main([*container["args"], "--help"])
    assert ended.value.code == 0
    assert "update-crds" in capsys.readouterr().out


def test_who_leaves_the_crds_to_others_gets_none_of_it() -> None:
    rendered = render({"crds.enabled": False})
    assert not any(map(is_for_crds, rendered))
    assert of_kind(rendered, "Job") == []
