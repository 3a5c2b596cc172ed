"""What happens to a running operator's namespaces, rights and kinds, before a real API server.

No pod finds a node: what is looked at are objects and the operator's log.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart_render import NAMESPACE, of_kind, render
from crd_objects import group_object, pool_object
from kubectl import Kubectl
from operator_process import OperatorProcess, operator_process
from sagepool_crds import names
from sagepool_crds.crd import build_crds

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

IMAGE = "sagepool.invalid/none:1"
EVERYWHERE = ""
LEFT = "the namespace is being deleted: leaving the pool to go with it"
POLICIES = "validatingadmissionpolicy,validatingadmissionpolicybinding"
NOWHERE = {"spec": {"nodeSelector": {"sagepool.invalid/node": "none"}}}
NO_ROOM = {"requests": {"cpu": "1000"}}
DEPLOYMENTS = {"rag-chat", "rag-router"}


def until(condition: Callable[[], object], what: str, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)


@contextmanager
def an_operator(kubeconfig: Path, namespace: str) -> Iterator[OperatorProcess]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    with operator_process(kubeconfig, namespace, image=IMAGE, liveness_port=port) as running:
        yield running
        assert running.process.poll() is None, "the operator has ended"


def apply_pool(kubectl: Kubectl, model: str = "one") -> None:
    """A pool with one group of two engines."""
    group = group_object(replicas=2, model={"name": model}, podTemplate=NOWHERE)
    pool = pool_object(groups=[group], router={"replicas": 1, "resources": NO_ROOM})
    pool["metadata"]["namespace"] = kubectl.namespace
    kubectl.apply(pool)


def condition(kubectl: Kubectl, type_: str = names.READY) -> dict[str, Any]:
    conditions = kubectl.get("spool/rag").get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == type_), {})


def is_told_of(kubectl: Kubectl) -> bool:
    """Whether the status, which is written last, speaks of the pool as it is."""
    pool = kubectl.get("spool/rag")
    seen = pool.get("status", {}).get("observedGeneration")
    return bool(seen == pool["metadata"]["generation"])


def replicas(kubectl: Kubectl) -> dict[str, int]:
    return {
        one["metadata"]["name"]: one["spec"]["replicas"]
        for one in kubectl.get("deployment")["items"]
    }


def replica_sets(kubectl: Kubectl) -> set[str]:
    """One for each pod template that a Deployment has had."""
    return {one["metadata"]["name"] for one in kubectl.get("replicaset")["items"]}


@contextmanager
def undeletable_pools(kubectl: Kubectl) -> Iterator[None]:
    """No pool of the namespace can be deleted while inside, whoever asks for it."""
    name = kubectl.namespace
    rule = {
        "apiGroups": [names.GROUP],
        "apiVersions": ["*"],
        "operations": ["DELETE"],
        "resources": [names.POOL_PLURAL],
    }
    here = {"matchLabels": {"kubernetes.io/metadata.name": name}}
    kind = "ValidatingAdmissionPolicy"
    meta = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    spec = {
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
        "validations": [{"expression": "false", "message": "not now"}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    kubectl.apply(
        {**meta, "kind": kind, "spec": spec}, {**meta, "kind": f"{kind}Binding", "spec": binding}
    )
    try:
        delete = ("delete", "spool/rag", "--dry-run=server")
        until(lambda: kubectl.run(*delete, check=False).returncode, "the policy is in force")
        yield
    finally:
        kubectl.run("delete", POLICIES, name)


def test_a_namespace_deleted_amid_a_rollout_is_left_with_one_line_and_no_other_pool_notices(
    kubeconfig: Path, namespace: Kubectl
) -> None:
    leaving = Kubectl(kubeconfig, f"{namespace.namespace}-leaving")
    name = leaving.namespace
    leaving.run("create", "namespace", name)
    with an_operator(kubeconfig, EVERYWHERE) as operator:

        def lines() -> list[dict[str, Any]]:
            """Of the two; what others have left behind may still be on its way out."""
            ours = (f"{name}/", f"{namespace.namespace}/")
            return [line for line in operator.logs if any(one in json.dumps(line) for one in ours)]

        def about(message: str) -> list[str]:
            """The objects of which the log has said this."""
            return [
                str(line.get("object") or line["pool"])
                for line in lines()
                if line["message"] == message
            ]

        for kubectl in (namespace, leaving):
            apply_pool(kubectl)
        until(lambda: is_told_of(namespace) and is_told_of(leaving), "the pools are told of")
        until(lambda: len(replica_sets(namespace)) == 2, "the pods are asked for")
        before = namespace.get("deployment,replicaset,service,pdb,role,rolebinding")

        # Everything goes but the pool, which wants it back: so it is for a moment each time.
        with undeletable_pools(leaving):
            apply_pool(leaving, "other")
            until(lambda: len(replica_sets(leaving)) == 3, "the rollout begins")
            leaving.run("delete", "namespace", name, "--wait=false")
            until(lambda: about(LEFT), "the operator notices")
            until(lambda: not replicas(leaving), "the children go")
            writes = len(about("applied"))
            leaving.run("annotate", "spool/rag", "example.org/poke=1")
            namespace.run("delete", "service/rag-router")
            until(lambda: namespace.get("service")["items"], "the other pool is looked after")
        leaving.run("wait", "--for=delete", f"namespace/{name}", "--timeout=90s", timeout_s=100)

        assert about("applied")[writes:] == [f"{namespace.namespace}/rag-router"]
        assert about(LEFT) == [f"{name}/rag"]
        assert {line["level"] for line in lines() if f"{name}/" in json.dumps(line)} == {"info"}
    after = namespace.get("deployment,replicaset,pdb,role,rolebinding")
    assert versions(after).items() <= versions(before).items()


def versions(found: dict[str, Any]) -> dict[str, str]:
    """What each object of a list was asked to be, last."""
    return {
        f"{one['kind']}/{one['metadata']['name']}": json.dumps(
            [one["metadata"]["uid"], one.get("spec"), one.get("rules")], sort_keys=True
        )
        for one in found["items"]
    }


@pytest.fixture
def account(kubeconfig: Path, namespace: Kubectl, tmp_path: Path) -> Path:
    """The kubeconfig of a service account with the rights that the chart gives in one namespace."""
    values = {"operator.scope": "namespace", "crds.enabled": False, "userRoles.aggregate": False}
    objects = render(values)
    rights = [
        obj
        for kind in ("ServiceAccount", "Role", "RoleBinding")
        for obj in of_kind(objects, kind)
        if "lease" not in obj["metadata"]["name"]
    ]
    text = json.dumps(rights).replace(f'"{NAMESPACE}"', f'"{namespace.namespace}"')
    namespace.apply(*json.loads(text))
    (user,) = of_kind(rights, "ServiceAccount")
    token = namespace.run("create", "token", user["metadata"]["name"]).stdout.strip()
    config = yaml.safe_load(kubeconfig.read_text())
    for entry in config["users"]:
        entry["user"] = {"token": token}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def the_binding(kubectl: Kubectl) -> dict[str, Any]:
    """The operator's, beside those that it makes for routers."""
    found = kubectl.get("rolebinding")["items"]
    (binding,) = (one for one in found if one["metadata"]["name"] != "rag-router")
    kept = {key: binding["metadata"][key] for key in ("name", "namespace", "labels")}
    return {**binding, "metadata": kept}


def without(rules: list[dict[str, Any]], group: str, verb: str) -> list[dict[str, Any]]:
    return [
        {**rule, "verbs": [each for each in rule["verbs"] if each != verb]}
        if group in rule["apiGroups"]
        else rule
        for rule in rules
    ]


def test_rights_that_are_taken_away_are_named_and_used_when_they_are_back(
    namespace: Kubectl, account: Path
) -> None:
    binding = the_binding(namespace)
    role = binding["roleRef"]["name"]
    rules = namespace.get("role", role)["rules"]

    def set_rules(wanted: list[dict[str, Any]]) -> None:
        patch = json.dumps({"rules": wanted})
        namespace.run("patch", "role", role, "--type=merge", f"--patch={patch}")

    with an_operator(account, namespace.namespace) as operator:
        apply_pool(namespace)
        until(lambda: replicas(namespace).keys() == DEPLOYMENTS, "the pool is made")
        until(lambda: is_told_of(namespace), "the pool is told of")

        set_rules(without(rules, "apps", "patch"))
        namespace.run("delete", "service/rag-router")
        apply_pool(namespace, "other")
        until(lambda: condition(namespace).get("reason") == "WriteRefused", "it is told")
        said = condition(namespace)["message"]
        assert 'cannot patch resource "deployments"' in said
        assert "give the operator's service account this right" in said
        until(lambda: namespace.get("service")["items"], "what is allowed is done")
        set_rules(rules)
        until(lambda: len(replica_sets(namespace)) == 3, "the right is used")
        until(lambda: condition(namespace)["reason"] != "WriteRefused", "it is told no more")

        namespace.run("delete", "rolebinding", binding["metadata"]["name"])
        apply_pool(namespace, "third")
        until(
            lambda: [line for line in operator.logs if "is forbidden" in line.get("error", "")],
            "the log says it",
        )
        assert len(replica_sets(namespace)) == 3
        namespace.apply(binding)
        until(lambda: len(replica_sets(namespace)) == 4, "the rights are used")
        until(lambda: is_told_of(namespace), "the pool is told of again")


def spec_of(crds: dict[str, dict[str, Any]], plural: str) -> dict[str, Any]:
    """The fields of a kind's spec."""
    (version,) = crds[plural]["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    fields: dict[str, Any] = schema["properties"]["spec"]["properties"]
    return fields


def older_crds() -> dict[str, dict[str, Any]]:
    """As they were before pools could be suspended."""
    crds = deepcopy(build_crds())
    del spec_of(crds, names.POOL_PLURAL)["suspend"]
    return crds


def newer_crds() -> dict[str, dict[str, Any]]:
    """As no operator knows them yet: a field more everywhere, and a column that shows it."""
    crds = deepcopy(build_crds())
    future = {"type": "string", "default": "unheard of"}
    pool = spec_of(crds, names.POOL_PLURAL)
    for fields in (pool, pool["groups"]["items"]["properties"]):
        fields["future"] = future
    spec_of(crds, names.INSTANCE_PLURAL)["future"] = future
    (version,) = crds[names.POOL_PLURAL]["spec"]["versions"]
    column = {"name": "Future", "type": "string", "jsonPath": ".spec.future"}
    version["additionalPrinterColumns"].append(column)
    return crds


def apply_crds(kubectl: Kubectl, crds: dict[str, dict[str, Any]]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*crds.values()]})
    kubectl.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


@pytest.fixture
def kinds(crds: Kubectl) -> Iterator[Kubectl]:
    """Where a test may change the kinds; they are today's again afterwards."""
    yield crds
    apply_crds(crds, build_crds())


def test_newer_kinds_under_a_running_operator_roll_nothing_and_their_fields_are_seen(
    kubeconfig: Path, namespace: Kubectl, kinds: Kubectl
) -> None:
    def suspend(value: bool) -> None:
        patch = json.dumps({"spec": {"suspend": value}})
        namespace.run("patch", "spool/rag", "--type=merge", f"--patch={patch}")

    def header() -> str:
        return namespace.run("get", "spool").stdout.splitlines()[0]

    with an_operator(kubeconfig, namespace.namespace) as operator:
        apply_crds(kinds, older_crds())
        apply_pool(namespace)
        until(lambda: is_told_of(namespace), "the pool is told of")
        until(lambda: "suspend" not in namespace.get("spool/rag")["spec"], "the field is gone")
        until(lambda: len(replica_sets(namespace)) == 2, "the pods are asked for")
        templates = replica_sets(namespace)

        apply_crds(kinds, newer_crds())
        until(lambda: "FUTURE" in header(), "the column is there")
        suspend(True)
        until(lambda: replicas(namespace)["rag-chat"] == 0, "the new field is seen")
        suspend(False)
        until(lambda: replicas(namespace)["rag-chat"] == 2, "and its reversal")
        assert replica_sets(namespace) == templates
        assert namespace.get("spool/rag")["spec"]["future"] == "unheard of"

        apply_crds(kinds, build_crds())
        until(lambda: "FUTURE" not in header(), "the column is gone")
        apply_pool(namespace, "other")
        until(lambda: len(replica_sets(namespace)) == 3, "the operator follows")
        until(lambda: is_told_of(namespace), "the pool is told of again")
        # kopf says so of its watch, which is to be taken up a moment later.
        ours = [line for line in operator.logs if line["logger"].startswith("sagepool")]
        assert [line for line in ours if line["level"] == "error"] == []
