"""cache.reclaimPolicy Delete: models that the pool wants no longer are removed, and no others."""

from collections.abc import Callable
from typing import Any

import pytest

from crd_objects import group_object
from operator_jobs import end_pod, fail_download, finish, start_download
from operator_world import KEY, World, start_deleting
from sagepool_crds import names
from sagepool_kube.api import DEPLOYMENTS, EVENTS, JOBS, PODS
from sagepool_operator.caching import places_of

Json = dict[str, Any]
CACHE = {"type": "pvc", "claimName": "models", "reclaimPolicy": "Delete"}
CLOUD = {
    "baseUrl": "https://api.example.com/v1",
    "apiKeySecret": {"name": "c", "key": "k"},
    "models": {"qwen": "theirs"},
}


def chat(model: str = "a", **fields: Any) -> Json:
    uri = model if "://" in model else f"hf://acme/{model}"
    said = {"engine": {"type": "vllm"}, "replicas": 1, **fields}
    return group_object(model={"name": "qwen", "uri": uri}, **said)


@pytest.fixture
def world() -> World:
    return World()


def apply(world: World, *groups: Json, cache: Json | None = None, **fields: Any) -> None:
    world.apply_pool(groups=list(groups), cache=cache or CACHE, **fields)


def args_of(job: Json) -> list[str]:
    args: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return args


def prunes(world: World) -> list[Json]:
    return [job for job in world.kube.all(JOBS) if "-prune-" in job["metadata"]["name"]]


def kept(job: Json) -> list[str]:
    return [a.removeprefix("--keep=") for a in args_of(job) if a.startswith("--keep=")]


def folder(world: World, group: int = 0) -> str:
    pool = world.pool
    return places_of(pool, pool.spec.groups[group])[0].path


async def fetched(world: World, *groups: Json, **fields: Any) -> None:
    """The pool has its models; what it wants no longer is about to be removed."""
    apply(world, *groups, **fields)
    await world.settle()
    for job in world.kube.all(JOBS):
        if "-model-" in job["metadata"]["name"]:
            finish(world, job)
    await world.settle()


async def settled(world: World, *groups: Json, **fields: Any) -> None:
    """All is done."""
    await fetched(world, *groups, **fields)
    for job in prunes(world):
        finish(world, job)
    await world.settle()


def events(world: World) -> list[str]:
    return [e["note"] for e in world.kube.all(EVENTS) if e["reason"] == "ModelsRemoved"]


async def test_without_the_policy_nothing_is_removed(world: World) -> None:
    retained = {"type": "pvc", "claimName": "models"}
    await settled(world, chat("a"), cache=retained)
    await settled(world, chat("b"), cache=retained)
    assert prunes(world) == []


async def test_one_job_for_each_set_of_models_says_what_to_keep(world: World) -> None:
    await settled(world, chat("a"), chat("b", name="other"))
    (job,) = prunes(world)
    spec = job["spec"]["template"]["spec"]
    container = spec["containers"][0]
    assert container["command"] == ["sagepool-downloader", "prune"]
    assert args_of(job)[:2] == ["--root=/models", f"--pool={world.pool.metadata.uid}"]
    assert kept(job) == sorted([folder(world, 0), folder(world, 1)])
    assert spec["volumes"][0]["persistentVolumeClaim"] == {"claimName": "models"}
    assert "ports" not in container
    await settled(world, chat("a"))
    (job,) = prunes(world)
    assert kept(job) == [folder(world)]


async def test_downloads_and_engines_say_for_which_pool_a_model_is_kept(world: World) -> None:
    await settled(world, chat("a"))
    uid = f"--pool={world.pool.metadata.uid}"
    fetching = [job for job in world.kube.all(JOBS) if "-model-" in job["metadata"]["name"]]
    assert [uid in args_of(job) for job in fetching] == [True]
    template = world.deployment("rag-chat")["spec"]["template"]["spec"]
    assert uid in template["initContainers"][0]["args"]


async def test_a_settled_pool_causes_no_write(world: World) -> None:
    await settled(world, chat("a"))
    writes = world.write_count()
    await world.reconcile()
    assert world.write_count() == writes


class TestNothingIsRemovedWhile:
    async def test_the_new_model_is_not_there(self, world: World) -> None:
        await settled(world, chat("a", replicas=0))
        apply(world, chat("b", replicas=0))
        await world.settle()
        assert prunes(world) == []
        await fetched(world, chat("b", replicas=0))
        assert [kept(job) for job in prunes(world)] == [[folder(world)]]

    async def test_the_new_engines_do_not_answer(self, world: World) -> None:
        """Until then a person may go back to the former model."""
        await settled(world, chat("a"))
        world.broken_groups.add("chat")
        await settled(world, chat("b"))
        assert prunes(world) == []
        world.broken_groups.clear()
        await world.settle()
        assert [kept(job) for job in prunes(world)] == [[folder(world)]]

    async def test_a_pod_of_the_former_model_drains(self, world: World) -> None:
        await settled(world, chat("a"))
        (old,) = world.pods("chat")
        name = "still-here"
        leaving = {**old, "metadata": {**old["metadata"], "name": name, "uid": name}}
        await settled(world, chat("b"))
        for job in prunes(world):
            world.kube.remove(JOBS, KEY.namespace, job["metadata"]["name"])
        leaving["metadata"]["annotations"] = {**leaving["metadata"]["annotations"], "of": "gone"}
        world.kube.put(PODS, leaving)
        start_deleting(world.kube, PODS, leaving)
        await world.settle()
        assert prunes(world) == []
        world.kube.remove(PODS, KEY.namespace, name)
        await world.settle()
        assert len(prunes(world)) == 1

    async def test_a_deployment_that_is_leaving_could_make_pods_of_it(self, world: World) -> None:
        await settled(world, chat("a", name="one"), chat("b", name="two"))
        live = world.deployment("rag-two")
        apply(world, chat("a", name="one"))
        start_deleting(world.kube, DEPLOYMENTS, live)
        await world.settle()
        assert prunes(world) == []
        world.kube.remove(DEPLOYMENTS, KEY.namespace, "rag-two")
        await world.settle()
        assert [kept(job) for job in prunes(world)] == [[folder(world)]]


async def test_a_pool_that_asks_a_cloud_for_a_while_keeps_the_models_that_it_names(
    world: World,
) -> None:
    await settled(world, chat("a"), cloud=CLOUD)
    (before,) = prunes(world)
    await settled(world, chat("a"), cloud=CLOUD, source="cloud")
    assert [job["metadata"]["name"] for job in prunes(world)] == [before["metadata"]["name"]]


async def test_a_folder_of_the_cache_that_is_served_as_that_of_a_claim_is_kept(
    world: World,
) -> None:
    await settled(world, chat("pvc://models/mine/v1"), chat("pvc://other/b", name="b"))
    assert [kept(job) for job in prunes(world)] == [["mine"]]


async def test_it_is_kept_too_where_the_group_fetches_its_other_model_into_the_cache(
    world: World,
) -> None:
    both = chat(
        "a", role="llm_embedding", embeddingModel={"name": "text", "uri": "pvc://models/mine/v1"}
    )
    await settled(world, both)
    assert [kept(job) for job in prunes(world)] == [[folder(world), "mine"]]


class TestAModelThatComesBack:
    """The Job that could remove it has to be gone before anything needs it."""

    async def start(self, world: World) -> Json:
        await settled(world, chat("a"))
        await fetched(world, chat("b"))
        (job,) = prunes(world)
        # Kubernetes keeps a Job that is deleted until its pods have gone.
        start_deleting(world.kube, JOBS, job)
        return job

    async def test_waits_for_the_job_to_be_gone(self, world: World) -> None:
        job = await self.start(world)
        apply(world, chat("a"))
        wanted = folder(world)
        await world.settle()
        template = world.deployment("rag-chat")["spec"]["template"]["spec"]
        assert not template["containers"][0]["args"][0].endswith(wanted)
        assert not any(f"--folder={wanted}" in args_of(one) for one in world.kube.all(JOBS))
        world.kube.remove(JOBS, KEY.namespace, job["metadata"]["name"])
        await world.settle()
        template = world.deployment("rag-chat")["spec"]["template"]["spec"]
        assert template["containers"][0]["args"][0].endswith(wanted)
        assert any(f"--folder={wanted}" in args_of(one) for one in world.kube.all(JOBS))

    async def test_is_not_held_up_by_a_job_that_has_ended(self, world: World) -> None:
        job = await self.start(world)
        finish(world, job)
        apply(world, chat("a"))
        await world.settle()
        template = world.deployment("rag-chat")["spec"]["template"]["spec"]
        assert template["containers"][0]["args"][0].endswith(folder(world))

    async def test_is_not_held_up_where_the_job_keeps_it(self, world: World) -> None:
        await settled(world, chat("a"), chat("b", name="two"))
        (job,) = prunes(world)
        world.kube.edit(JOBS, KEY.namespace, job["metadata"]["name"], lambda o: o.pop("status"))
        apply(world, chat("b"), chat("a", name="two"))
        await world.settle()
        template = world.deployment("rag-chat")["spec"]["template"]["spec"]
        assert template["containers"][0]["args"][0].endswith(folder(world))

    async def test_has_the_job_deleted_that_would_remove_it(self, world: World) -> None:
        await settled(world, chat("a"))
        await fetched(world, chat("b"))
        (job,) = prunes(world)
        apply(world, chat("a"))
        await world.reconcile()
        assert job["metadata"]["name"] not in {j["metadata"]["name"] for j in prunes(world)}


class TestTold:
    async def remove(self, world: World, said: str) -> Json:
        await settled(world, chat("a"))
        await fetched(world, chat("b"))
        (job,) = prunes(world)
        pod = start_download(world, job)
        await world.settle()
        end_pod(world, pod, said)
        finish(world, job)
        await world.settle()
        return job

    async def test_what_has_been_removed_is_an_event_once(self, world: World) -> None:
        await self.remove(world, f"Removed: {5 * 2**30} bytes of acme--a--0123")
        told = ["removed acme--a--0123 from claim models: 5.0 GiB that no pool wants"]
        assert events(world) == told
        writes = world.write_count()
        await world.settle(world.reconciler())  # a new operator
        assert events(world) == told
        assert world.write_count() == writes

    async def test_that_nothing_was_to_remove_is_none(self, world: World) -> None:
        await self.remove(world, "")
        assert events(world) == []

    async def test_what_keeps_models_from_being_removed_is_in_the_condition(
        self, world: World
    ) -> None:
        await settled(world, chat("a"))
        await fetched(world, chat("b"))
        (job,) = prunes(world)
        pod = start_download(world, job)
        fail_download(world, pod, "FolderUnusable: /models cannot be written by user 65532")
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("True", "ModelsCached")
        assert world.message(names.MODELS_CACHED) == (
            "1 of 1 are on claim models; what is no longer wanted cannot be removed: "
            "/models cannot be written by user 65532"
        )
        end_pod(world, pod, "")
        finish(world, job)
        await world.settle()
        assert world.message(names.MODELS_CACHED) == "1 of 1 are on claim models"

    async def test_a_job_that_removes_is_not_asked_for_progress(self, world: World) -> None:
        await settled(world, chat("a"))
        await fetched(world, chat("b"))
        (job,) = prunes(world)
        pod = start_download(world, job)
        await world.settle()
        assert pod["metadata"]["uid"] not in {target.uid for target in world.downloads.asked}


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.pop("reclaimPolicy"),
        lambda cache: cache.update(type="none", reclaimPolicy="Retain", claimName=None),
    ],
)
async def test_taking_the_policy_back_stops_the_job(
    world: World, change: Callable[[Json], object]
) -> None:
    await settled(world, chat("a"))
    cache = dict(CACHE)
    change(cache)
    await settled(world, chat("a"), cache={k: v for k, v in cache.items() if v is not None})
    assert prunes(world) == []


async def test_another_image_makes_an_unfinished_job_anew_and_leaves_a_finished_one(
    world: World,
) -> None:
    await fetched(world, chat("a"))
    (before,) = prunes(world)
    world.images = type(world.images)(own="registry/sagepool:2")
    await world.settle()
    (after,) = prunes(world)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    finish(world, after)
    world.images = type(world.images)(own="registry/sagepool:3")
    await world.settle()
    (left,) = prunes(world)
    assert left["metadata"]["uid"] == after["metadata"]["uid"]


async def test_a_job_of_somebody_else_of_that_name_is_left_alone(world: World) -> None:
    await settled(world, chat("a"))
    (ours,) = prunes(world)
    name = ours["metadata"]["name"]
    world.kube.remove(JOBS, KEY.namespace, name)
    theirs = {"metadata": {"name": name, "namespace": KEY.namespace}, "spec": ours["spec"]}
    put = world.kube.put(JOBS, theirs)
    await world.settle()
    (left,) = prunes(world)
    assert left["metadata"]["uid"] == put["metadata"]["uid"]
