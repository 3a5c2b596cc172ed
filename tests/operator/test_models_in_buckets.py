"""A model in a bucket: the Job fetches it into the cache, with the keys of a Secret."""

from typing import Any

import pytest

from crd_objects import group_object
from operator_jobs import fail_download, finish, start_download
from operator_world import World
from sagepool_crds import names
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import JOBS
from sagepool_operator.caching import places_of
from sagepool_operator.recorded import group_digest

Json = dict[str, Any]
URI = "s3://models/qwen/2.5"
CACHE = {"type": "pvc", "claimName": "cache"}


def chat(**model: Any) -> Json:
    said = {"name": "qwen", "uri": URI, "credentialsSecret": "s3", **model}
    return group_object(engine={"type": "vllm"}, model=said, replicas=1)


@pytest.fixture
async def world() -> World:
    world = World()
    world.apply_pool(groups=[chat()], cache=CACHE)
    await world.settle()
    return world


def download(world: World) -> Json:
    (job,) = world.kube.all(JOBS)
    return job


def container(world: World) -> Json:
    found: Json = download(world)["spec"]["template"]["spec"]["containers"][0]
    return found


async def test_the_job_fetches_the_folder_and_engines_load_it(world: World) -> None:
    args = container(world)["args"]
    assert args[0] == f"--uri={URI}"
    assert not any(argument.startswith("--revision") for argument in args)
    (folder,) = [a.removeprefix("--folder=") for a in args if a.startswith("--folder=")]
    assert folder.startswith("models--qwen--2.5--")
    engine = world.deployment("rag-chat")["spec"]["template"]["spec"]["containers"][0]
    assert engine["args"][0] == f"/models/{folder}"


async def test_the_keys_come_from_their_secret_to_the_job_alone(world: World) -> None:
    env = {one["name"]: one.get("valueFrom") for one in container(world)["env"]}
    keys = {name: where["secretKeyRef"] for name, where in env.items() if where is not None}
    assert {where["name"] for where in keys.values()} == {"s3"}
    assert all(where["key"] == name for name, where in keys.items())
    assert {name: where.get("optional", False) for name, where in keys.items()} == {
        "AWS_ACCESS_KEY_ID": False,
        "AWS_SECRET_ACCESS_KEY": False,
        "AWS_SESSION_TOKEN": True,
        "AWS_REGION": True,
        "AWS_ENDPOINT_URL": True,
    }
    engine = world.deployment("rag-chat")["spec"]["template"]["spec"]["containers"][0]
    assert not any(one["name"].startswith("AWS_") for one in engine["env"])


async def test_a_bucket_that_is_open_to_everybody_needs_no_secret(world: World) -> None:
    world.edit_group("chat", model={"name": "qwen", "uri": URI})
    await world.settle()
    assert [one["name"] for one in container(world)["env"]] == ["HF_HOME"]


async def test_what_keeps_it_from_the_cache_is_the_condition(world: World) -> None:
    pod = start_download(world, download(world))
    fail_download(world, pod, f"AccessDenied: {URI}: 403: allow the key of it s3:GetObject")
    await world.settle()
    assert world.condition(names.MODELS_CACHED) == ("False", "AccessDenied")
    assert f"{URI}: {URI}: 403: allow" in world.message(names.MODELS_CACHED)
    finish(world, download(world))
    await world.settle()
    assert world.condition(names.MODELS_CACHED) == ("True", "ModelsCached")


def test_another_secret_is_another_job_and_no_other_pods() -> None:
    def pool(secret: str) -> InferencePool:
        meta = {"name": "rag", "namespace": "default"}
        spec = {"groups": [chat(credentialsSecret=secret)], "cache": CACHE}
        return InferencePool.from_object({"metadata": meta, "spec": spec})

    one, two = pool("one"), pool("two")
    digests = [group_digest(p, p.spec.groups[0]) for p in (one, two)]
    downloads = [places_of(p, p.spec.groups[0])[0].download for p in (one, two)]
    assert digests[0] == digests[1]
    assert downloads[0] is not None
    assert downloads[1] is not None
    assert downloads[0].name != downloads[1].name
    assert downloads[0].folder == downloads[1].folder
