"""What the API server accepts and refuses, rule by rule, and that it names the way out."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

import crd_metadata
from crd_objects import cloud_object, group_object, instance_object, pool_object
from crd_pod_rules import POD_RULES, POD_SHAPES
from crd_rules import RULES, Rule
from kubectl import Kubectl
from sagepool_crds.admission import Refused, admit
from sagepool_crds.crd import build_crds

pytestmark = pytest.mark.cluster

EVERY_RULE = [*RULES, *POD_RULES]


@dataclass(frozen=True)
class Server:
    """The API server, asked without anything being stored."""

    client: httpx.Client

    def try_create(self, obj: dict[str, Any]) -> tuple[bool, str]:
        """Whether it would be accepted, and the server's words."""
        plural = obj["kind"].lower() + "s"
        answer = self.client.post(
            f"/apis/{obj['apiVersion']}/namespaces/default/{plural}",
            params={"dryRun": "All", "fieldValidation": "Strict"},
            json=obj,
        )
        return answer.status_code == 201, answer.json().get("message", "")


@pytest.fixture(scope="session")
def server(crds: Kubectl) -> Iterator[Server]:
    with crds.proxy() as url, httpx.Client(base_url=url, timeout=20) as client:
        yield Server(client)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda r: r.says[:40] + "|" + r.names)
def test_rule_refuses_and_accepts(server: Server, rule: Rule) -> None:
    accepted, words = server.try_create(rule.bad)
    assert not accepted
    assert rule.says in words
    assert rule.names in words
    assert server.try_create(rule.good) == (True, "")


@pytest.mark.parametrize("metadata", crd_metadata.GOOD, ids=str)
def test_metadata_is_taken_as_a_server_takes_it(server: Server, metadata: dict[str, Any]) -> None:
    pool = pool_object()
    pool["metadata"].update(metadata)
    assert server.try_create(pool) == (True, "")
    admit(pool)


@pytest.mark.parametrize("metadata", crd_metadata.BAD, ids=lambda m: str(m)[:60])
def test_metadata_is_refused_with_the_words_of_a_server(
    server: Server, metadata: dict[str, Any]
) -> None:
    pool = pool_object()
    pool["metadata"].update(metadata)
    accepted, words = server.try_create(pool)
    assert not accepted
    with pytest.raises(Refused) as refused:
        admit(pool)
    assert str(refused.value) == words


def test_annotations_have_a_limit_together(server: Server) -> None:
    pool = pool_object()
    pool["metadata"].update(crd_metadata.TOO_LONG)
    assert crd_metadata.TOO_LONG_WORDS in server.try_create(pool)[1]


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda r: r.says[:40] + "|" + r.names)
def test_rule_is_read_the_same_without_a_cluster(server: Server, rule: Rule) -> None:
    _, words = server.try_create(rule.bad)
    with pytest.raises(Refused) as refused:
        admit(rule.bad)
    assert str(refused.value) == words
    admit(rule.good)


@pytest.mark.parametrize("rule", POD_SHAPES, ids=lambda r: r.says)
def test_shape_refuses_and_accepts(server: Server, rule: Rule) -> None:
    accepted, words = server.try_create(rule.bad)
    assert not accepted
    assert f"{rule.names}: {rule.says}" in words
    assert server.try_create(rule.good) == (True, "")


def _messages(node: dict[str, Any]) -> Iterator[str]:
    for rule in node.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"]:
            yield rule["message"]
    inner = (node.get("items"), node.get("additionalProperties"))
    for child in [*node.get("properties", {}).values(), *inner]:
        if isinstance(child, dict):
            yield from _messages(child)


def test_every_rule_has_a_case() -> None:
    messages = {
        message
        for crd in build_crds().values()
        for message in _messages(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    }
    assert {m for m in messages if not any(r.says in m for r in EVERY_RULE)} == set()


def _change_role(pool: dict[str, Any]) -> None:
    pool["spec"]["groups"][1]["role"] = "llm"


def _change_replicas(pool: dict[str, Any]) -> None:
    pool["spec"]["groups"][1]["replicas"] = 3


def _change_pool(instance: dict[str, Any]) -> None:
    instance["spec"]["poolRef"] = "other"


def _change_drain(instance: dict[str, Any]) -> None:
    instance["spec"]["drain"] = True


@pytest.mark.parametrize(
    ("build", "bad", "good", "says"),
    [
        (
            pool_object,
            _change_role,
            _change_replicas,
            "a group's role cannot change: add a group with another name and remove this one",
        ),
        (
            instance_object,
            _change_pool,
            _change_drain,
            "poolRef cannot change: delete the instance and make it anew for the other pool",
        ),
    ],
    ids=["role of a group", "pool of an instance"],
)
def test_what_cannot_change(
    namespace: Kubectl,
    build: Callable[[], dict[str, Any]],
    bad: Callable[[dict[str, Any]], None],
    good: Callable[[dict[str, Any]], None],
    says: str,
) -> None:
    def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        obj = deepcopy(build())
        obj["metadata"]["namespace"] = namespace.namespace
        change(obj)
        return obj

    namespace.apply(changed(lambda _: None))
    with pytest.raises(AssertionError, match=says):
        namespace.apply(changed(bad))
    namespace.apply(changed(good))


def test_largest_pool_is_within_the_server_s_cost_limit(server: Server) -> None:
    """The estimator accepts rules whose real cost is over the limit: only the largest tells."""

    def name(kind: str, group: int, index: int = 0) -> str:
        return f"{kind}-{group}-{index}".ljust(63, "x")

    groups = [
        group_object(
            name=f"group-{g}",
            role="llm" if g % 2 else "embedding",
            model={"name": name("model", g), "aliases": [name("alias", g, i) for i in range(16)]},
        )
        for g in range(32)
    ]
    assert server.try_create(pool_object(groups=groups)) == (True, "")


def test_largest_pool_of_two_models_a_group_is_within_the_server_s_cost_limit(
    server: Server,
) -> None:
    def model(kind: str, group: int) -> dict[str, Any]:
        names = [f"{kind}-{group}-{i}".ljust(63, "x") for i in range(17)]
        return {"name": names[0], "aliases": names[1:]}

    groups = [
        group_object(
            name=f"group-{g}",
            role="llm_embedding",
            replicas=None,
            scaling={"minReplicas": 0, "maxReplicas": 4, "target": {"queuedTexts": 256}},
            model=model("chat", g),
            embeddingModel=model("embed", g),
            adapters=[
                {"name": f"adapter-{g}-{i}".ljust(63, "x"), "uri": "/models/".ljust(512, "x")}
                for i in range(16)
            ],
        )
        for g in range(32)
    ]
    mapped = {f"model-{i}".ljust(63, "x"): "x" * 128 for i in range(64)}
    pool = pool_object(cloud=cloud_object(models=mapped, sameEmbeddingSpace=list(mapped)))
    pool["spec"]["groups"] = groups
    assert server.try_create(pool) == (True, "")


def test_server_fills_in_every_default(server: Server) -> None:
    answer = server.client.post(
        "/apis/sagepool.dev/v1alpha1/namespaces/default/inferencepools",
        params={"dryRun": "All"},
        json=pool_object(),
    ).json()
    assert answer["spec"]["suspend"] is False
    assert answer["spec"]["source"] == "auto"
    assert answer["spec"]["scheduling"] == {
        "policy": "hybrid",
        "llmPolicy": "adaptive",
        "embeddingBatchSize": 32,
        "embeddingBatchTokens": 16384,
        "maxEmbeddingWaitMs": 5,
        "embeddingPriority": "normal",
        "hybridInstanceRatio": 0.7,
        "preferSpecializedInstances": True,
        "prefixAffinity": True,
        "queue": {"maxRequests": 1000, "maxWaitSeconds": 60},
        "slo": {"chatTtftMs": 1000, "embeddingMs": 200},
    }
    assert "cloud" not in answer["spec"]
    assert answer["spec"]["router"] == {
        "replicas": 2,
        "service": {"type": "ClusterIP", "port": 80},
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "1Gi"},
        },
    }
    assert answer["spec"]["groups"][1] == {
        "name": "embed",
        "role": "embedding",
        "engine": {"type": "simulator", "args": [], "embeddingArgs": [], "env": [], "port": 8000},
        "model": {"name": "bge-m3", "aliases": []},
        "adapters": [],
        "replicas": 1,
        "maxConcurrency": 256,
        "rollout": {"maxSurge": 1, "maxUnavailable": 0, "drainSeconds": 300},
    }


def test_provider_is_asked_in_every_case_by_default(server: Server) -> None:
    answer = server.client.post(
        "/apis/sagepool.dev/v1alpha1/namespaces/default/inferencepools",
        params={"dryRun": "All"},
        json=pool_object(cloud=cloud_object()),
    ).json()
    assert answer["spec"]["cloud"]["when"] == ["absent", "starting", "overloaded"]
    assert answer["spec"]["cloud"]["sameEmbeddingSpace"] == []
