"""The real operator process against a real API server, in a namespace of its own.

No image is needed: the router's pods never start, the one engine is a stub on this machine.
"""

import asyncio
import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crd_objects import (
    cloud_object,
    group_object,
    instance_object,
    mixed_group_object,
    pool_object,
)
from kubectl import Kubectl
from operator_engine import StubEngine
from operator_process import OperatorProcess, operator_process

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

IMAGE = "sagepool.invalid/none:1"
KINDS = "inferencepool,inferenceinstance,deployment,service,serviceaccount,role,rolebinding,pdb"


def until(condition: Callable[[], bool], what: str, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def operator(kubeconfig: Path, namespace: Kubectl, port: int) -> Iterator[OperatorProcess]:
    with operator_process(
        kubeconfig, namespace.namespace, image=IMAGE, liveness_port=port
    ) as running:
        yield running


def in_namespace(obj: dict[str, Any], kubectl: Kubectl) -> dict[str, Any]:
    return {**obj, "metadata": {"name": obj["metadata"]["name"], "namespace": kubectl.namespace}}


def empty_pool() -> dict[str, Any]:
    """A pool whose groups have no engine."""
    return pool_object(groups=[group_object(replicas=0)], router={"replicas": 1})


def ready_reason(kubectl: Kubectl, what: str) -> str:
    status = kubectl.get(what).get("status", {})
    return "".join(c["reason"] for c in status.get("conditions", ()) if c["type"] == "Ready")


def health(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)["operator"]
        return found


def test_pool_is_made_explained_left_alone_and_removed(
    operator: OperatorProcess, namespace: Kubectl, port: int
) -> None:
    namespace.apply(in_namespace(empty_pool(), namespace))
    until(
        lambda: ready_reason(namespace, "spool/rag") in ("ImagePullFailed", "RouterNotReady"),
        "the pool has a status",
    )
    made = namespace.get(KINDS)
    assert {f"{o['kind']}/{o['metadata']['name']}" for o in made["items"]} >= {
        "Deployment/rag-chat",
        "Deployment/rag-router",
        "Service/rag-router",
        "ServiceAccount/rag-router",
        "Role/rag-router",
        "RoleBinding/rag-router",
        "PodDisruptionBudget/rag-chat",
        "PodDisruptionBudget/rag-router",
    }
    meta = namespace.get("spool/rag")["metadata"]
    assert "finalizers" not in meta
    assert not [a for a in meta.get("annotations", {}) if "kubectl" not in a]

    # What the server fills in is no drift: each object was written once, however often we look.
    namespace.run("annotate", "spool/rag", "example.org/poke=1")
    namespace.run("annotate", "deployment/rag-chat", "example.org/poke=1")
    namespace.run("scale", "deployment/rag-chat", "--replicas=0")
    namespace.run("label", "service/rag-router", "example.org/poke=1")
    before = health(port)["lastSuccessfulReconcile"]
    until(lambda: health(port)["lastSuccessfulReconcile"] != before, "another reconcile")
    applied = operator.applied()
    assert sorted(applied) == sorted(set(applied))

    namespace.run("delete", "spool/rag", "--timeout=30s")
    until(lambda: not namespace.get("deployment,pdb")["items"], "its objects are collected")
    assert operator.stop() == 0


def replicas_of_chat(kubectl: Kubectl) -> int:
    return int(kubectl.get("deployment/rag-chat")["spec"]["replicas"])


@pytest.mark.usefixtures("operator")
def test_replicas_are_handed_over_to_others_and_taken_back(namespace: Kubectl, port: int) -> None:
    def apply(**group: Any) -> None:
        groups = [group_object(**{"replicas": None, **group})]
        namespace.apply(in_namespace(pool_object(groups=groups), namespace))

    def annotated() -> bool:
        made = namespace.get("deployment/rag-chat")
        return made["metadata"]["annotations"].get("sagepool.dev/replicas") == "external"

    def looks_again() -> None:
        before = health(port)["lastSuccessfulReconcile"]
        namespace.run("annotate", "spool/rag", f"example.org/poke={before}", "--overwrite")
        until(lambda: health(port)["lastSuccessfulReconcile"] != before, "another reconcile")

    apply(replicas=3)
    namespace.run("wait", "--for=create", "deployment/rag-chat", "--timeout=30s")
    apply(scaling={"mode": "external"})
    until(annotated, "the number is left to others")
    assert replicas_of_chat(namespace) == 3
    namespace.run("scale", "deployment/rag-chat", "--replicas=5")
    apply(scaling={"mode": "external"}, maxConcurrency=7)
    looks_again()
    assert replicas_of_chat(namespace) == 5

    namespace.run("patch", "spool/rag", "--type=merge", '--patch={"spec":{"suspend":true}}')
    until(lambda: replicas_of_chat(namespace) == 0, "a suspended pool has no engine")
    namespace.run("patch", "spool/rag", "--type=merge", '--patch={"spec":{"suspend":false}}')
    until(lambda: replicas_of_chat(namespace) == 1, "it begins with one")

    apply(replicas=2)
    until(lambda: replicas_of_chat(namespace) == 2, "the spec says the number again")
    namespace.run("scale", "deployment/rag-chat", "--replicas=4")
    until(lambda: replicas_of_chat(namespace) == 2, "what others set is put right")


@pytest.mark.usefixtures("operator")
def test_a_new_group_that_others_scale_begins_with_one(namespace: Kubectl) -> None:
    pool = pool_object(groups=[group_object(replicas=None, scaling={"mode": "external"})])
    namespace.apply(in_namespace(pool, namespace))
    namespace.run("wait", "--for=create", "deployment/rag-chat", "--timeout=30s")
    assert replicas_of_chat(namespace) == 1


@pytest.mark.usefixtures("operator")
def test_quota_that_refuses_pods_is_told_until_it_is_raised(namespace: Kubectl) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team", "namespace": namespace.namespace},
        "spec": {"hard": {"pods": "0"}},
    }
    namespace.apply(quota)
    namespace.apply(
        in_namespace(
            pool_object(groups=[group_object(replicas=1)], router={"replicas": 1}), namespace
        )
    )
    until(lambda: ready_reason(namespace, "spool/rag") == "PodsRefused", "the refusal is told")
    status = namespace.get("spool/rag")["status"]
    said = {c["type"]: (c["reason"], c["message"]) for c in status["conditions"]}
    for type_, subject in (("Ready", "group chat"), ("RouterReady", "the router")):
        assert said[type_][0] == "PodsRefused"
        assert f"{subject}: pods " in said[type_][1]
        assert "exceeded quota: team" in said[type_][1]
        assert f"raise the ResourceQuota, or ask for less in {subject}" in said[type_][1]

    namespace.run("delete", "resourcequota/team")
    until(lambda: ready_reason(namespace, "spool/rag") != "PodsRefused", "the refusal is over", 120)


def test_secrets_that_are_missing_are_named_until_they_are_there(
    operator: OperatorProcess, namespace: Kubectl
) -> None:
    def router_ready() -> tuple[str, str]:
        conditions = namespace.get("spool/rag").get("status", {}).get("conditions", ())
        found = [(c["reason"], c["message"]) for c in conditions if c["type"] == "RouterReady"]
        return found[0] if found else ("", "")

    def make_secret(name: str) -> None:
        namespace.run("create", "secret", "generic", name, "--from-literal=token=x")

    pool = pool_object(
        source="cloud",
        groups=[mixed_group_object(gpu={"pricePerHour": 2.5})],
        cloud=cloud_object(models={"small": "their-chat"}),
        router={"replicas": 1, "auth": {"apiKeysSecret": "rag-keys"}},
    )
    namespace.apply(in_namespace(pool, namespace))
    until(lambda: router_ready()[0] == "SecretNotMounted", "the missing Secrets are told")
    said = router_ready()[1]
    assert "Secret rag-keys (router.auth.apiKeysSecret)" in said
    assert "Secret provider with key token (cloud.apiKeySecret)" in said
    assert namespace.get("deployment/rag-mixed")["spec"]["replicas"] == 0

    make_secret("rag-keys")
    make_secret("provider")
    # What stands in the way now is the image, which no registry has.
    until(lambda: router_ready()[0] == "ImagePullFailed", "the Secrets are mounted", 120)
    applied = operator.applied()
    assert sorted(applied) == sorted(set(applied))


def test_fields_that_somebody_edits_come_back(
    operator: OperatorProcess, namespace: Kubectl
) -> None:
    namespace.apply(in_namespace(empty_pool(), namespace))
    until(lambda: ready_reason(namespace, "spool/rag") != "", "the pool has a status")
    namespace.run("scale", "deployment/rag-router", "--replicas=3")
    namespace.run("delete", "service/rag-router")
    namespace.run("set", "image", "deployment/rag-chat", "engine=evil:1")

    def is_repaired() -> bool:
        deployments = {d["metadata"]["name"]: d["spec"] for d in namespace.get("deploy")["items"]}
        chat = deployments["rag-chat"]["template"]["spec"]["containers"][0]
        return (
            deployments["rag-router"]["replicas"] == 1
            and chat["image"] == IMAGE
            and len(namespace.get("service")["items"]) == 1
        )

    until(is_repaired, "the fields are back")


async def test_engine_in_another_embedding_space_gets_no_requests_and_says_so(
    kubeconfig: Path, namespace: Kubectl, port: int
) -> None:
    ours = StubEngine(models=("minilm",), vector=(0.6, 0.8, 0.0))
    other = StubEngine(models=("minilm",), vector=(0.8, -0.6, 0.0))
    async with ours.serve(), other.serve():

        def put(name: str, engine: StubEngine) -> None:
            endpoint = {"role": "embedding", "url": engine.url, "models": ["minilm"]}
            obj = in_namespace(instance_object(endpoints=[endpoint]), namespace)
            obj["metadata"]["name"] = name
            namespace.apply(obj)

        def check() -> None:
            with operator_process(kubeconfig, namespace.namespace, image=IMAGE, liveness_port=port):
                namespace.apply(in_namespace(empty_pool(), namespace))
                put("ours", ours)
                until(lambda: ready_reason(namespace, "sinst/ours") == "Ready", "the first serves")
            # The space outlives the operator, also one that another engine has shown.
            with operator_process(kubeconfig, namespace.namespace, image=IMAGE, liveness_port=port):
                put("another", other)
                until(
                    lambda: ready_reason(namespace, "sinst/another") == "OtherEmbeddingSpace",
                    "the second is refused",
                )
            assert ready_reason(namespace, "sinst/ours") == "Ready"
            message = namespace.get("sinst/another")["status"]["message"]
            assert "serve it under another model name" in message
            (model,) = [m for m in namespace.get("spool/rag")["status"]["models"] if "space" in m]
            assert (model["name"], model["space"]["dimension"]) == ("minilm", 3)
            told = namespace.get("events.events.k8s.io")["items"]
            assert [e["regarding"]["name"] for e in told if e["reason"] == "OtherEmbeddingSpace"]

        await asyncio.to_thread(check)


@pytest.mark.usefixtures("operator")
async def test_provider_is_told_lost_and_back_and_no_more_when_it_is_removed(
    namespace: Kubectl,
) -> None:
    provider = StubEngine()
    async with provider.serve():
        pass  # it has an address now, where nothing listens

    def cloud() -> tuple[str, str]:
        conditions = namespace.get("spool/rag").get("status", {}).get("conditions", ())
        found = [(c["status"], c["message"]) for c in conditions if c["type"] == "CloudReachable"]
        return found[0] if found else ("", "")

    async def wait(condition: Callable[[], bool], what: str) -> None:
        await asyncio.to_thread(until, condition, what)

    pool = in_namespace(empty_pool(), namespace)
    with_cloud = {**pool["spec"], "cloud": cloud_object(baseUrl=f"{provider.url}/v1")}
    await asyncio.to_thread(namespace.apply, {**pool, "spec": with_cloud})
    await wait(lambda: cloud()[0] == "False", "the loss is told")
    assert "check cloud.baseUrl" in cloud()[1]
    async with provider.serve():
        await wait(lambda: cloud()[0] == "True", "it is back")
    assert provider.requests
    assert set(provider.requests) == {"/v1/models"}
    await asyncio.to_thread(namespace.apply, pool)
    await wait(lambda: cloud() == ("", ""), "it is told no more")
    told = namespace.get("events.events.k8s.io")["items"]
    reasons = [e["reason"] for e in told if e["reason"].startswith("Cloud")]
    assert sorted(reasons) == ["CloudReachable", "CloudUnreachable"]


async def test_engine_elsewhere_is_probed_through_a_restart_of_the_operator(
    kubeconfig: Path, namespace: Kubectl, port: int
) -> None:
    engine = StubEngine(models=("qwen2.5-7b",))
    async with engine.serve():
        endpoint = {"role": "llm", "url": engine.url, "models": ["qwen2.5-7b"]}
        elsewhere = instance_object(endpoints=[endpoint])

        def reason() -> str:
            return ready_reason(namespace, "sinst/elsewhere")

        def check() -> None:
            with operator_process(
                kubeconfig, namespace.namespace, image=IMAGE, liveness_port=port
            ) as operator:
                namespace.apply(in_namespace(elsewhere, namespace))
                until(lambda: reason() == "PoolNotFound", "the instance is told")
                namespace.apply(in_namespace(empty_pool(), namespace))
                until(lambda: reason() == "Ready", "the instance is ready")
                operator.kill()
            engine.health = 500
            with operator_process(
                kubeconfig, namespace.namespace, image=IMAGE, liveness_port=port
            ) as operator:
                until(lambda: reason() not in ("Ready", ""), "the loss is seen")
                assert operator.applied() == []

        await asyncio.to_thread(check)
