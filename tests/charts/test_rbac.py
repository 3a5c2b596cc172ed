"""The operator's rights: exactly those of this table. What it really asks for, the end-to-end
tests read from the API server's audit log."""

from itertools import product
from typing import Any, Final

import pytest

from chart_render import NAMESPACE, environment, is_for_crds, of_kind, render, the
from crd_objects import pool_object
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import INSTANCES, LEASES
from sagepool_operator.builders.router import build_access
from sagepool_operator.config import read_settings
from sagepool_operator.snapshot import CHILD_KINDS

_READ: Final = {"get", "list", "watch"}
_OWN: Final = _READ | {"create", "patch"}
_OF_A_GROUP: Final = _OWN | {"delete"}

EXPECTED: Final[dict[tuple[str, str], set[str]]] = {
    ("sagepool.dev", "inferencepools"): _READ,
    ("sagepool.dev", "inferencepools/status"): {"patch"},
    ("sagepool.dev", "inferenceinstances"): _OWN,
    ("sagepool.dev", "inferenceinstances/status"): {"patch"},
    ("apps", "deployments"): _OF_A_GROUP,
    ("batch", "jobs"): _OF_A_GROUP,
    ("", "persistentvolumeclaims"): _OWN,
    ("", "services"): _OWN,
    ("", "serviceaccounts"): _OWN,
    ("rbac.authorization.k8s.io", "roles"): _OWN,
    ("rbac.authorization.k8s.io", "rolebindings"): _OWN,
    ("policy", "poddisruptionbudgets"): _OF_A_GROUP,
    ("", "pods"): {"list", "watch"},
    ("", "pods/status"): {"patch"},
    ("events.k8s.io", "events"): {"create"},
}

SCOPES: Final = {
    "cluster": ("ClusterRole", "ClusterRoleBinding"),
    "namespace": ("Role", "RoleBinding"),
}


def operator_role(scope: str) -> dict[str, Any]:
    kind = SCOPES[scope][0]
    roles = of_kind(render({"operator.scope": scope}), kind)
    (role,) = [r for r in roles if r["metadata"]["name"].endswith("-operator")]
    return role


@pytest.mark.parametrize("scope", SCOPES)
def test_the_operator_has_exactly_the_rights_of_the_table(scope: str) -> None:
    granted: dict[tuple[str, str], set[str]] = {}
    for rule in operator_role(scope)["rules"]:
        assert rule.keys() == {"apiGroups", "resources", "verbs"}
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                assert (group, resource) not in granted, "granted by two rules"
                granted[group, resource] = set(rule["verbs"])
    assert granted == EXPECTED


@pytest.mark.parametrize("scope", SCOPES)
def test_the_operators_share_one_lease_in_their_own_namespace_and_touch_no_other(
    scope: str,
) -> None:
    objects = render({"operator.scope": scope})
    (role,) = [r for r in of_kind(objects, "Role") if r["metadata"]["name"].endswith("-lease")]
    lease = read_settings(environment(objects)).lease
    assert lease is not None
    assert role["metadata"]["namespace"] == lease.namespace == NAMESPACE
    leases = {"apiGroups": [LEASES.group], "resources": [LEASES.plural]}
    assert role["rules"] == [
        {**leases, "resourceNames": [lease.name], "verbs": ["get", "watch", "patch"]},
        {**leases, "verbs": ["create"]},  # no rule can name what is not there yet
    ]


@pytest.mark.parametrize("scope", SCOPES)
def test_the_rights_are_bound_to_the_operators_account_only(scope: str) -> None:
    rendered = render({"operator.scope": scope})
    objects = [obj for obj in rendered if not is_for_crds(obj)]
    account = the(objects, "ServiceAccount")["metadata"]["name"]
    role, binding = SCOPES[scope]
    granted = {}
    for found in [b for kind in {binding, "RoleBinding"} for b in of_kind(objects, kind)]:
        assert found["subjects"] == [
            {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
        ]
        granted[found["roleRef"]["name"]] = found["roleRef"]["kind"]
    assert granted == {account: role, f"{account}-lease": "Role"}


def test_the_operator_may_write_what_a_pool_is_made_of_and_instances_and_no_more() -> None:
    writable = {right for right, verbs in EXPECTED.items() if verbs >= _OWN}
    assert writable == {(kind.group, kind.plural) for kind in (*CHILD_KINDS, INSTANCES)}


def test_a_router_is_granted_nothing_that_the_operator_lacks() -> None:
    pool = InferencePool.from_object(pool_object())
    (role,) = [obj for obj in build_access(pool) if obj["kind"] == "Role"]
    for rule in role["rules"]:
        for group, resource in product(rule["apiGroups"], rule["resources"]):
            assert set(rule["verbs"]) <= EXPECTED[group, resource]


def test_no_right_is_a_wildcard_and_none_reaches_secrets() -> None:
    for (group, resource), verbs in EXPECTED.items():
        assert "*" not in {group, resource, *verbs}
        assert resource != "secrets"


@pytest.mark.parametrize(
    ("suffix", "aggregates", "verbs"),
    [
        ("-view", {"view"}, _READ),
        ("-edit", {"edit", "admin"}, {"create", "update", "patch", "delete", "deletecollection"}),
    ],
)
def test_the_clusters_own_roles_cover_pools(
    suffix: str, aggregates: set[str], verbs: set[str]
) -> None:
    (role,) = [
        r for r in of_kind(render(), "ClusterRole") if r["metadata"]["name"].endswith(suffix)
    ]
    labels = role["metadata"]["labels"]
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert {k.removeprefix(prefix) for k in labels if k.startswith(prefix)} == aggregates
    (rule,) = role["rules"]
    assert rule["resources"] == ["inferencepools", "inferenceinstances"]
    assert set(rule["verbs"]) == verbs
