"""The reading without a cluster. test_rules.py and test_bounds.py hold it against a server's."""

from copy import deepcopy
from typing import Any

import pytest

import crd_metadata
from crd_objects import group_object, instance_object, pool_object
from crd_pod_rules import POD_RULES, POD_SHAPES
from crd_rules import RULES, Rule
from sagepool_crds.admission import Refused, admit

EVERY_RULE = [*RULES, *POD_RULES, *POD_SHAPES]


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda r: r.says[:40] + "|" + r.names)
def test_rule_refuses_names_the_field_and_accepts(rule: Rule) -> None:
    with pytest.raises(Refused) as refused:
        admit(rule.bad)
    assert rule.says in str(refused.value)
    assert rule.names in str(refused.value)
    assert admit(rule.good)["metadata"] == rule.good["metadata"]


def test_defaults_are_filled_in_and_the_object_is_left_alone() -> None:
    pool = pool_object()
    before = deepcopy(pool)
    spec = admit(pool)["spec"]
    assert pool == before
    assert spec["source"] == "auto"
    assert spec["scheduling"]["queue"] == {"maxRequests": 1000, "maxWaitSeconds": 60}
    assert spec["groups"][0]["engine"]["port"] == 8000
    assert "cloud" not in spec


def test_reading_what_was_read_changes_nothing() -> None:
    once = admit(pool_object())
    assert admit(once) == once


def test_null_is_the_default() -> None:
    assert admit(pool_object(suspend=None))["spec"]["suspend"] is False


def test_every_wrong_field_is_named_in_one_answer() -> None:
    groups = [group_object(role="chat"), group_object(name="b", maxConcurrency="many")]
    with pytest.raises(Refused) as refused:
        admit(pool_object(groups=groups))
    assert [problem.path for problem in refused.value.problems] == [
        "spec.groups[0].role",
        "spec.groups[1].maxConcurrency",
    ]


def test_unknown_fields_are_named_with_their_place() -> None:
    groups = [group_object(replica=2)]
    with pytest.raises(Refused, match=r'unknown field "spec.groups\[0\].replica"'):
        admit(pool_object(groups=groups))


@pytest.mark.parametrize(
    ("field", "value"), [("kind", "Pod"), ("apiVersion", "inference.networking.k8s.io/v1")]
)
def test_another_kind_is_refused_with_the_kinds_that_are_meant(field: str, value: str) -> None:
    with pytest.raises(Refused, match=r"write InferencePool or InferenceInstance of sagepool.dev"):
        admit({**pool_object(), field: value})


@pytest.mark.parametrize("metadata", crd_metadata.BAD, ids=lambda m: str(m)[:60])
def test_metadata_that_kubernetes_would_not_take_is_refused(metadata: dict[str, Any]) -> None:
    pool = pool_object()
    pool["metadata"].update(metadata)
    with pytest.raises(Refused, match=rf"metadata\.{next(iter(metadata))}"):
        admit(pool)


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"name": 3}, r"metadata\.name: Invalid value: 3: .* must be of type string"),
        ({"namespace": ["a"]}, r"metadata\.namespace: .* must be of type string"),
        ({"labels": {"a": 1}}, r"metadata\.labels\.a: Invalid value: 1: .* of type string"),
        ({"labels": {1: "a"}}, r"metadata\.labels: Invalid value: 1: .* of type string"),
        ({"labels": "a"}, r"metadata\.labels: .* must be of type object"),
        ({"annotations": {"a": True}}, r"metadata\.annotations\.a: .* of type string"),
    ],
)
def test_what_kubectl_cannot_read_of_metadata_is_told_as_of_any_field(
    metadata: dict[str, Any], told: str
) -> None:
    pool = pool_object()
    pool["metadata"].update(metadata)
    with pytest.raises(Refused, match=told):
        admit(pool)


def test_a_name_that_a_server_would_make_up_is_none_for_an_object_that_is_applied() -> None:
    pool = pool_object()
    pool["metadata"] = {"generateName": "rag-"}
    with pytest.raises(Refused, match=r"metadata\.name: Required value: .* found by its name"):
        admit(pool)


def test_annotations_have_a_limit_together() -> None:
    pool = pool_object()
    pool["metadata"].update(crd_metadata.TOO_LONG)
    with pytest.raises(Refused, match=crd_metadata.TOO_LONG_WORDS):
        admit(pool)


@pytest.mark.parametrize("metadata", crd_metadata.GOOD, ids=str)
def test_other_metadata_is_kept(metadata: dict[str, Any]) -> None:
    pool = pool_object()
    pool["metadata"].update(metadata)
    assert admit(pool)["metadata"] == pool["metadata"]


@pytest.mark.parametrize("name", ["", "A_b", "-a", "x" * 254])
def test_an_instance_needs_a_name_that_kubernetes_takes(name: str) -> None:
    instance = instance_object()
    instance["metadata"]["name"] = name
    with pytest.raises(Refused, match=r"metadata\.name"):
        admit(instance)


def _with_role(pool: dict[str, Any], role: str) -> dict[str, Any]:
    changed = deepcopy(pool)
    changed["spec"]["groups"][1]["role"] = role
    return changed


def test_a_rule_about_changes_is_checked_against_the_object_before() -> None:
    pool = pool_object()
    changed = _with_role(pool, "llm")
    assert admit(changed)["spec"]["groups"][1]["role"] == "llm"
    with pytest.raises(Refused, match="a group's role cannot change"):
        admit(changed, old=admit(pool))


def test_groups_are_the_same_by_name_and_not_by_place() -> None:
    pool = pool_object()
    turned = deepcopy(pool)
    turned["spec"]["groups"].reverse()
    assert admit(turned, old=admit(pool))["spec"]["groups"][0]["name"] == "embed"
