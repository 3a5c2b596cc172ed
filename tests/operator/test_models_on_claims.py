"""A model that lies on a claim: engines mount it, and nothing is fetched."""

from typing import Any

import pytest

from crd_objects import group_object
from operator_world import World, set_pod_status
from sagepool_crds import names
from sagepool_kube.api import DEPLOYMENTS, JOBS, PERSISTENT_VOLUME_CLAIMS

Json = dict[str, Any]
CACHE = {"type": "pvc", "claimName": "cache", "size": "100Gi"}
MOUNT = {"name": "models", "mountPath": "/models", "readOnly": True}
VOLUME = {
    "name": "models",
    "persistentVolumeClaim": {"claimName": "weights", "readOnly": True},
}


def group(uri: str, **fields: Any) -> Json:
    said = {"engine": {"type": "vllm"}, "replicas": 1, **fields}
    return group_object(model={"name": "qwen", "uri": uri}, **said)


@pytest.fixture
def world() -> World:
    return World()


def pod_spec(world: World) -> Json:
    spec: Json = world.deployment("rag-chat")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("cache", [None, CACHE])
async def test_an_engine_mounts_the_claim_and_serves_from_it(
    world: World, cache: Json | None
) -> None:
    fields = {"cache": cache} if cache else {}
    world.apply_pool(groups=[group("pvc://weights/qwen/2.5")], **fields)
    await world.settle()
    spec = pod_spec(world)
    assert spec["containers"][0]["args"][0] == "/models/qwen/2.5"
    assert "--served-model-name=qwen" in spec["containers"][0]["args"]
    assert [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "models"] == [MOUNT]
    assert [v for v in spec["volumes"] if v["name"] == "models"] == [VOLUME]
    assert [one["name"] for one in spec["initContainers"]] == ["sidecar"]
    assert world.kube.all(JOBS) == []
    assert world.condition(names.MODELS_CACHED) == ("", "")
    assert world.condition(names.READY) == ("True", "AllReady")


async def test_a_claim_may_hold_one_model_only(world: World) -> None:
    world.apply_pool(groups=[group("pvc://weights")])
    await world.settle()
    assert pod_spec(world)["containers"][0]["args"][0] == "/models"


async def test_an_embedding_engine_serves_from_it_too(world: World) -> None:
    embed = group("pvc://weights/bge", role="embedding", engine={"type": "tei"})
    world.apply_pool(groups=[embed])
    await world.settle()
    assert "--model-id=/models/bge" in pod_spec(world)["containers"][0]["args"]


async def test_the_simulator_mounts_nothing(world: World) -> None:
    world.apply_pool(groups=[group("pvc://weights/qwen", engine={"type": "simulator"})])
    await world.settle()
    assert VOLUME not in pod_spec(world)["volumes"]


async def test_another_folder_rolls_the_engines_and_the_claim_is_never_touched(
    world: World,
) -> None:
    world.apply_pool(groups=[group("pvc://weights/a")])
    await world.settle()
    world.apply_pool(groups=[group("pvc://weights/b")])
    await world.settle()
    assert pod_spec(world)["containers"][0]["args"][0] == "/models/b"
    assert world.kube.all(PERSISTENT_VOLUME_CLAIMS) == []
    assert len(world.kube.all(DEPLOYMENTS)) == 2


@pytest.mark.parametrize(
    "said",
    [
        '0/3 nodes are available: persistentvolumeclaim "weights" not found.',
        "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
    ],
)
async def test_a_claim_that_is_missing_or_pending_is_told_in_the_schedulers_words(
    world: World, said: str
) -> None:
    world.apply_pool(groups=[group("pvc://weights/qwen")])
    world.broken_groups.add("chat")
    await world.settle()
    (pod,) = world.pods("chat")
    lost = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    set_pod_status(world.kube, pod, phase="Pending", conditions=[lost])
    await world.settle()
    assert world.condition(names.READY) == ("False", "Unschedulable")
    message = world.message(names.READY)
    assert said.rstrip(".") in message
    assert "create the claim that group chat mounts, correct its name, or see what" in message
    (of_group,) = world.status.groups
    assert said.rstrip(".") in of_group.message
