"""A group with a chat and an embedding model: both are fetched, waited for, told of and kept."""

from typing import Any

import pytest

from crd_objects import mixed_group_object
from operator_jobs import end_pod, finish, start_download
from operator_world import KEY, World
from sagepool_crds import names
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import JOBS, PODS
from sagepool_operator.caching import Place, places_of
from sagepool_operator.recorded import group_digest
from sagepool_operator.reports import ProgressReport

Json = dict[str, Any]
CACHE = {"type": "pvc", "claimName": "models", "reclaimPolicy": "Delete"}
HALF = ProgressReport(5_000, 10_000, 100, 50)


def mixed(chat: str = "hf://acme/chat", text: str = "hf://acme/text", **fields: Any) -> Json:
    return mixed_group_object(
        engine={"type": "vllm"},
        model={"name": "small", "uri": chat},
        embeddingModel={"name": "bge", "uri": text, **fields},
        replicas=1,
    )


@pytest.fixture
def world() -> World:
    return World()


def fetches(world: World) -> dict[str, Json]:
    """The Jobs that fetch, by the model's uri."""
    found = {}
    for job in world.kube.all(JOBS):
        (uri,) = _values(job["spec"]["template"]["spec"]["containers"][0], "--uri=") or [""]
        found[uri] = job
    found.pop("", None)
    return found


def prunes(world: World) -> list[Json]:
    return [job for job in world.kube.all(JOBS) if "-prune-" in job["metadata"]["name"]]


def _values(container: Json, flag: str) -> list[str]:
    return [a.removeprefix(flag) for a in container.get("args", ()) if a.startswith(flag)]


def places(world: World) -> tuple[Place, Place]:
    pool = world.pool
    chat, text = places_of(pool, pool.spec.groups[0])
    return chat, text


def pod_spec(world: World) -> Json:
    spec: Json = world.deployment("rag-mixed")["spec"]["template"]["spec"]
    return spec


async def all_fetched(world: World, *groups: Json) -> None:
    world.apply_pool(groups=list(groups), cache=CACHE)
    await world.settle()
    for job in fetches(world).values():
        finish(world, job)
    await world.settle()


async def test_each_model_is_fetched_by_a_job_of_its_own(world: World) -> None:
    world.apply_pool(groups=[mixed()], cache=CACHE)
    await world.settle()
    assert fetches(world).keys() == {"hf://acme/chat", "hf://acme/text"}


async def test_engines_wait_for_both_models_on_one_volume(world: World) -> None:
    world.apply_pool(groups=[mixed()], cache=CACHE)
    await world.settle()
    chat, text = places(world)
    spec = pod_spec(world)
    assert _values(spec["initContainers"][0], "--folder=") == [chat.path, text.path]
    assert [v["name"] for v in spec["volumes"] if "models" in v["name"]] == ["models"]
    mount = {"name": "models", "mountPath": "/models", "readOnly": True}
    assert [m for m in spec["containers"][0]["volumeMounts"] if "models" in m["name"]] == [mount]
    assert (chat.folder, text.folder) == (f"/models/{chat.path}", f"/models/{text.path}")


async def test_the_status_tells_of_both(world: World) -> None:
    world.apply_pool(groups=[mixed()], cache=CACHE)
    await world.settle()
    jobs = fetches(world)
    finish(world, jobs["hf://acme/chat"])
    pod = start_download(world, jobs["hf://acme/text"])
    await world.settle()
    world.downloads.said = {pod["metadata"]["uid"]: HALF}
    await world.settle()
    told = {m.name: m.cache.phase for m in world.status.models if m.cache is not None}
    assert told == {"small": "Cached", "bge": "Downloading"}
    assert world.condition(names.MODELS_CACHED) == ("False", "Downloading")
    assert "fetching hf://acme/text@main into" in world.message(names.MODELS_CACHED)
    end_pod(world, pod, "Done: 10000 bytes")
    finish(world, jobs["hf://acme/text"])
    await world.settle()
    assert world.condition(names.MODELS_CACHED) == ("True", "ModelsCached")
    assert world.message(names.MODELS_CACHED) == "2 of 2 are on claim models"


async def test_a_download_that_another_group_wants_too_is_one(world: World) -> None:
    twin = {**mixed(), "name": "twin"}
    world.apply_pool(groups=[mixed(), twin], cache=CACHE)
    await world.settle()
    assert len(fetches(world)) == 2


async def test_both_models_are_kept_and_only_the_former_one_goes(world: World) -> None:
    await all_fetched(world, mixed())
    chat, text = places(world)
    (job,) = prunes(world)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert _values(container, "--keep=") == sorted([chat.path, text.path])
    finish(world, job)
    await all_fetched(world, mixed(text="hf://acme/other"))
    (job,) = prunes(world)
    container = job["spec"]["template"]["spec"]["containers"][0]
    kept = _values(container, "--keep=")
    assert chat.path in kept
    assert text.path not in kept


async def test_nothing_is_removed_while_a_pod_has_the_former_embedding_model(world: World) -> None:
    await all_fetched(world, mixed())
    (old,) = world.pods("mixed")
    await all_fetched(world, mixed(text="hf://acme/other"))
    for job in prunes(world):
        world.kube.remove(JOBS, KEY.namespace, job["metadata"]["name"])
    meta = {**old["metadata"], "name": "old", "uid": "old", "annotations": {"of": "gone"}}
    world.kube.put(PODS, {**old, "metadata": meta})
    await world.settle()
    assert prunes(world) == []
    world.kube.remove(PODS, KEY.namespace, "old")
    await world.settle()
    assert len(prunes(world)) == 1


@pytest.mark.parametrize(
    ("chat", "text", "expected"),
    [
        ("pvc://a/x", "pvc://a/y", [("models", "/models", "a")]),
        (
            "pvc://a/x",
            "pvc://b",
            [("models", "/models", "a"), ("embedding-models", "/embedding-models", "b")],
        ),
        (
            "pvc://a/x",
            "hf://acme/text",
            [("models", "/models", "a"), ("embedding-models", "/embedding-models", "models")],
        ),
        (
            "hf://acme/chat",
            "pvc://b/y",
            [("models", "/models", "models"), ("embedding-models", "/embedding-models", "b")],
        ),
        # The cache's own claim: a kubelet never mounts one twice into a pod.
        ("pvc://models/x", "hf://acme/text", [("models", "/models", "models")]),
        ("hf://acme/chat", "pvc://models/y", [("models", "/models", "models")]),
    ],
)
async def test_models_on_different_volumes_have_a_mount_each(
    world: World, chat: str, text: str, expected: list[tuple[str, str, str]]
) -> None:
    world.apply_pool(groups=[mixed(chat, text)], cache=CACHE)
    await world.settle()
    spec = pod_spec(world)
    claims = {
        v["name"]: v["persistentVolumeClaim"]["claimName"]
        for v in spec["volumes"]
        if "persistentVolumeClaim" in v
    }
    mounts = [
        (m["name"], m["mountPath"], claims[m["name"]])
        for m in spec["containers"][0]["volumeMounts"]
        if m["name"] in claims
    ]
    assert mounts == expected
    wait = [c for c in spec["initContainers"] if c["name"] == "model"]
    fetched = [place for place in places(world) if place.download is not None]
    assert [_values(c, "--folder=") for c in wait] == ([[p.path for p in fetched]] if wait else [])
    assert bool(wait) == bool(fetched)
    for container, place in zip(wait, fetched, strict=True):
        assert place.volume is not None
        assert container["volumeMounts"] == [
            {"name": place.volume.name, "mountPath": "/models", "readOnly": True}
        ]
        assert place.folder == f"{place.volume.mount}/{place.path}"


async def test_an_embedding_model_on_a_claim_is_found_though_the_engine_fetches_the_other(
    world: World,
) -> None:
    world.apply_pool(groups=[mixed("hf://acme/chat", "pvc://b/y")])
    await world.settle()
    chat, text = places(world)
    assert (chat.folder, text.folder) == ("", "/models/y")


def test_the_keys_of_the_embedding_models_bucket_are_nothing_to_the_pods() -> None:
    def digest_with(secret: str) -> str:
        group = mixed(text="s3://models/bge", credentialsSecret=secret)
        meta = {"name": "rag", "namespace": "default"}
        pool = InferencePool.from_object(
            {"metadata": meta, "spec": {"groups": [group], "cache": CACHE}}
        )
        return group_digest(pool, pool.spec.groups[0])

    assert digest_with("one") == digest_with("two")
