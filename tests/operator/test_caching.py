"""A pool's cache: claim, one Job for each model and revision, and engines that wait for it."""

from typing import Any

import pytest

from crd_objects import group_object
from operator_jobs import fail_download, finish, start_download
from operator_world import IMAGES, KEY, World, set_pod_status
from sagepool_crds import names
from sagepool_crds.cache import ModelCache
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import (
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    POOLS,
)
from sagepool_operator.caching import places_of
from sagepool_operator.recorded import group_digest
from sagepool_operator.reports import ProgressReport

Json = dict[str, Any]
URI = "hf://Qwen/Qwen2.5-7B-Instruct"
CLAIM = {"type": "pvc", "claimName": "models", "size": "100Gi"}
NO_SECRET = {"reason": "CreateContainerConfigError", "message": "no hf"}
HALF = ProgressReport(5_000, 10_000, 100, 50)


def chat(**fields: Any) -> Json:
    model = {"name": "qwen", "uri": URI, "revision": "v1", **fields.pop("model", {})}
    return group_object(engine={"type": "vllm"}, model=model, replicas=1, **fields)


@pytest.fixture
def world() -> World:
    return World()


def cached_pool(world: World, *groups: Json, cache: Json | None = None) -> None:
    world.apply_pool(groups=list(groups) or [chat()], cache=cache or CLAIM)


def jobs(world: World) -> list[Json]:
    return world.kube.all(JOBS)


def cache_status(world: World, model: str = "qwen") -> ModelCache | None:
    return next(m.cache for m in world.status.models if m.name == model)


def events(world: World) -> list[tuple[str, str]]:
    return [(e["type"], e["reason"]) for e in world.kube.all(EVENTS)]


class TestObjects:
    async def test_the_claim_is_made_and_outlives_its_pool(self, world: World) -> None:
        cached_pool(world, cache={**CLAIM, "storageClassName": "fast"})
        await world.settle()
        (claim,) = world.kube.all(PERSISTENT_VOLUME_CLAIMS)
        assert claim["metadata"]["name"] == "models"
        assert "ownerReferences" not in claim["metadata"]
        assert claim["spec"] == {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "fast",
            "resources": {"requests": {"storage": "100Gi"}},
        }
        world.kube.remove(POOLS, KEY.namespace, KEY.name)
        world.kube.collect_garbage()
        assert world.kube.all(JOBS) == world.kube.all(DEPLOYMENTS) == []
        assert len(world.kube.all(PERSISTENT_VOLUME_CLAIMS)) == 1

    async def test_a_claim_without_a_name_has_the_pools(self, world: World) -> None:
        cached_pool(world, cache={"type": "pvc", "size": "1Gi", "accessMode": "ReadWriteOnce"})
        await world.settle()
        (claim,) = world.kube.all(PERSISTENT_VOLUME_CLAIMS)
        assert claim["metadata"]["name"] == "rag-models"
        assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]

    async def test_a_larger_size_enlarges_the_claim(self, world: World) -> None:
        cached_pool(world)
        await world.settle()
        cached_pool(world, cache={**CLAIM, "size": "200Gi"})
        await world.settle()
        (claim,) = world.kube.all(PERSISTENT_VOLUME_CLAIMS)
        assert claim["spec"]["resources"]["requests"]["storage"] == "200Gi"

    @pytest.mark.parametrize("labels", [{}, {names.POOL_LABEL: "other"}])
    async def test_a_claim_of_somebody_else_is_used_and_left_as_it_is(
        self, world: World, labels: dict[str, str]
    ) -> None:
        theirs = {"name": "models", "namespace": KEY.namespace, "labels": labels}
        spec = {"resources": {"requests": {"storage": "1Gi"}}}
        world.kube.put(
            PERSISTENT_VOLUME_CLAIMS,
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": theirs, "spec": spec},
        )
        cached_pool(world)
        await world.settle()
        (claim,) = world.kube.all(PERSISTENT_VOLUME_CLAIMS)
        assert claim["spec"] == spec
        assert world.condition(names.READY)[1] != "NameTaken"

    async def test_a_claim_that_is_only_named_is_not_made(self, world: World) -> None:
        cached_pool(world, cache={"type": "pvc", "claimName": "models"})
        await world.settle()
        assert world.kube.all(PERSISTENT_VOLUME_CLAIMS) == []
        (job,) = jobs(world)
        volume = job["spec"]["template"]["spec"]["volumes"][0]
        assert volume["persistentVolumeClaim"] == {"claimName": "models"}

    async def test_a_model_is_fetched_once_at_each_revision(self, world: World) -> None:
        cached_pool(
            world,
            chat(name="a"),
            chat(name="b", model={"name": "same"}),
            chat(name="c", model={"name": "next", "revision": "v2"}),
        )
        await world.settle()
        fetched = [j["spec"]["template"]["spec"]["containers"][0]["args"] for j in jobs(world)]
        assert sorted(args[:2] for args in fetched) == [
            [f"--uri={URI}", "--revision=v1"],
            [f"--uri={URI}", "--revision=v2"],
        ]

    async def test_the_token_comes_from_its_secret_to_the_job_alone(self, world: World) -> None:
        cached_pool(world, chat(model={"tokenSecret": {"name": "hf", "key": "token"}}))
        await world.settle()
        (job,) = jobs(world)
        env = job["spec"]["template"]["spec"]["containers"][0]["env"]
        token = {"secretKeyRef": {"name": "hf", "key": "token"}}
        assert {"name": "HF_TOKEN", "valueFrom": token} in env
        engine = world.deployment("rag-chat")["spec"]["template"]["spec"]["containers"][0]
        assert "HF_TOKEN" not in {variable["name"] for variable in engine["env"]}

    async def test_the_simulator_and_engines_without_a_cache_get_none(self, world: World) -> None:
        simulated = group_object(name="sim", model={"name": "s", "uri": URI}, replicas=1)
        cached_pool(world, simulated)
        await world.settle()
        world.apply_pool(groups=[chat()])
        await world.settle()
        cached_pool(world, cache={"type": "none"})
        await world.settle()
        assert jobs(world) == []
        assert world.condition(names.MODELS_CACHED) == ("", "")

    async def test_a_pool_that_runs_no_engine_fetches_nothing(self, world: World) -> None:
        cloud = {
            "baseUrl": "https://api.example.com/v1",
            "apiKeySecret": {"name": "c", "key": "k"},
            "models": {"qwen": "theirs"},
        }
        world.apply_pool(groups=[chat()], cache=CLAIM, cloud=cloud, source="cloud")
        await world.settle()
        assert jobs(world) == []
        assert world.condition(names.READY) == ("True", "CloudOnly")


class TestEngines:
    async def test_an_engine_loads_the_folder_and_serves_the_same_name(self, world: World) -> None:
        cached_pool(world)
        await world.settle()
        template = world.deployment("rag-chat")["spec"]["template"]["spec"]
        engine = template["containers"][0]
        pool = world.pool
        folder = places_of(pool, pool.spec.groups[0])[0].folder
        assert engine["args"][0] == folder
        assert folder.startswith("/models/Qwen--Qwen2.5-7B-Instruct--")
        assert "--served-model-name=qwen" in engine["args"]
        assert not any(argument.startswith("--revision") for argument in engine["args"])
        mount = {"name": "models", "mountPath": "/models", "readOnly": True}
        assert mount in engine["volumeMounts"]
        wait = template["initContainers"][0]
        assert wait["command"] == ["sagepool-downloader", "wait"]
        assert wait["args"][:2] == ["--root=/models", f"--folder={folder.split('/')[-1]}"]
        assert wait["volumeMounts"] == [mount]

    async def test_a_folder_of_the_nodes_has_to_be_there(self, world: World) -> None:
        cached_pool(world, cache={"type": "hostPath", "path": "/mnt/models"})
        await world.settle()
        (job,) = jobs(world)
        for template in (job["spec"]["template"], world.deployment("rag-chat")["spec"]["template"]):
            (volume,) = [v for v in template["spec"]["volumes"] if v["name"] == "models"]
            assert volume["hostPath"] == {"path": "/mnt/models", "type": "Directory"}

    async def test_an_embedding_engine_loads_the_folder_too(self, world: World) -> None:
        embed = group_object(
            name="embed",
            role="embedding",
            engine={"type": "tei"},
            model={"name": "bge", "uri": "hf://BAAI/bge"},
            replicas=1,
        )
        cached_pool(world, embed)
        await world.settle()
        args = world.deployment("rag-embed")["spec"]["template"]["spec"]["containers"][0]["args"]
        pool = world.pool
        assert f"--model-id={places_of(pool, pool.spec.groups[0])[0].folder}" in args

    async def test_the_time_of_a_download_is_no_sign_of_a_rollout_that_is_stuck(
        self, world: World
    ) -> None:
        world.apply_pool(groups=[chat()])
        await world.settle()
        before = world.deployment("rag-chat")["spec"]["progressDeadlineSeconds"]
        cached_pool(world)
        await world.settle()
        after = world.deployment("rag-chat")["spec"]["progressDeadlineSeconds"]
        assert after - before == 24 * 3600

    async def test_an_engine_that_waits_says_so(self, world: World) -> None:
        cached_pool(world)
        world.broken_groups.add("chat")
        await world.settle()
        (pod,) = world.pods("chat")
        waiting = {"waiting": {"reason": "PodInitializing"}}
        set_pod_status(
            world.kube,
            pod,
            phase="Pending",
            initContainerStatuses=[{"name": "model", "state": {"running": {}}}],
            containerStatuses=[{"name": "engine", "restartCount": 0, "state": waiting}],
        )
        await world.settle()
        (instance,) = world.instances("chat")
        assert instance["status"]["phase"] == "Downloading"
        assert "ModelsCached" in instance["status"]["message"]

    def test_a_folder_stays_the_same_in_every_version(self) -> None:
        """It is in the recorded templates of engines that run, and on volumes."""
        pool = InferencePool.from_object(
            {
                "metadata": {"name": "rag", "namespace": "default"},
                "spec": {"groups": [chat()], "cache": CLAIM},
            }
        )
        download = places_of(pool, pool.spec.groups[0])[0].download
        assert download is not None
        assert download.folder == "Qwen--Qwen2.5-7B-Instruct--4c06c58d24"
        assert download.name == "rag-model-a183d38994"

    def test_a_cache_builds_the_pods_anew_and_none_does_not(self) -> None:
        def digest_with(cache: Json | None) -> str:
            spec = {"groups": [chat()], **({"cache": cache} if cache else {})}
            meta = {"name": "rag", "namespace": "default"}
            pool = InferencePool.from_object({"metadata": meta, "spec": spec})
            return group_digest(pool, pool.spec.groups[0])

        assert digest_with({"type": "none"}) == digest_with(None)
        assert digest_with(CLAIM) != digest_with(None)
        assert digest_with(CLAIM) == digest_with({**CLAIM, "size": "200Gi"})
        assert digest_with(CLAIM) != digest_with({**CLAIM, "claimName": "other"})


class TestProgress:
    async def test_what_a_download_tells_is_in_the_status(self, world: World) -> None:
        cached_pool(world)
        await world.settle()
        assert cache_status(world) == ModelCache(phase="Pending")
        assert world.condition(names.MODELS_CACHED) == ("False", "Downloading")
        pod = start_download(world, jobs(world)[0])
        await world.settle()
        (target,) = world.downloads.asked
        assert (target.uid, target.url) == (
            pod["metadata"]["uid"],
            "http://10.1.9.9:9093/progress",
        )
        world.downloads.said = {target.uid: HALF}
        await world.settle()
        assert cache_status(world) == ModelCache(
            phase="Downloading",
            bytes=5_000,
            total_bytes=10_000,
            bytes_per_second=100,
            remaining_seconds=50,
        )

    async def test_a_finished_job_means_cached(self, world: World) -> None:
        cached_pool(world)
        await world.settle()
        pod = start_download(world, jobs(world)[0])
        world.downloads.said = {pod["metadata"]["uid"]: HALF}
        await world.settle()
        finish(world, jobs(world)[0])
        set_pod_status(world.kube, pod, containerStatuses=[])
        world.downloads.said = {}
        await world.settle()
        assert cache_status(world) == ModelCache(phase="Cached", bytes=10_000, total_bytes=10_000)
        assert world.condition(names.MODELS_CACHED) == ("True", "ModelsCached")
        assert world.message(names.MODELS_CACHED) == "1 of 1 are on claim models"
        assert world.downloads.asked == ()

    async def test_a_finished_download_tells_the_size_though_nobody_watched_it(
        self, world: World
    ) -> None:
        cached_pool(world)
        await world.settle()
        pod = start_download(world, jobs(world)[0])
        ended = {"exitCode": 0, "reason": "Completed", "message": "Done: 10000 bytes"}
        container = {"name": "download", "restartCount": 0, "state": {"terminated": ended}}
        set_pod_status(world.kube, pod, phase="Succeeded", containerStatuses=[container])
        finish(world, jobs(world)[0])
        await world.settle()
        assert cache_status(world) == ModelCache(phase="Cached", bytes=10_000, total_bytes=10_000)

    async def test_a_settled_pool_with_a_cache_causes_no_request(self, world: World) -> None:
        cached_pool(world)
        await world.settle()
        finish(world, jobs(world)[0])
        await world.settle()
        world.kube.calls.clear()
        await world.reconcile()
        assert world.kube.calls == []

    async def test_turns_are_told_in_events_once(self, world: World) -> None:
        cached_pool(world)
        await world.settle()
        start_download(world, jobs(world)[0])
        await world.settle()
        finish(world, jobs(world)[0])
        await world.settle()
        told = [event for event in events(world) if event[1] in ("Downloading", "ModelsCached")]
        assert told == [("Normal", "Downloading"), ("Normal", "ModelsCached")]

    async def test_a_claim_that_is_being_bound_is_no_event(self, world: World) -> None:
        cached_pool(world)
        world.broken_groups.add("chat")
        await world.settle()
        said = "pod has unbound immediate PersistentVolumeClaims"
        lost = {"type": "PodScheduled", "status": "False", "message": said}
        pod = start_download(world, jobs(world)[0], conditions=[lost], containerStatuses=[])
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("False", "ClaimPending")
        assert world.condition(names.READY)[1] != "ClaimPending"
        running = {"name": "download", "restartCount": 0, "state": {"running": {}}}
        set_pod_status(world.kube, pod, conditions=[], containerStatuses=[running])
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("False", "Downloading")
        reasons = [reason for _, reason in events(world)]
        assert (reasons.count("ClaimPending"), reasons.count("Downloading")) == (0, 1)


class TestTrouble:
    async def test_what_a_download_says_at_its_end_is_the_condition(self, world: World) -> None:
        cached_pool(world)
        world.broken_groups.add("chat")
        await world.settle()
        pod = start_download(world, jobs(world)[0])
        fail_download(world, pod, "TokenMissing: the hub answers 401: name a Secret")
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("False", "TokenMissing")
        assert world.condition(names.READY) == ("False", "TokenMissing")
        said = f"{URI}@v1: the hub answers 401: name a Secret"
        assert world.message() == world.message(names.MODELS_CACHED) == said
        cache = cache_status(world)
        assert cache is not None
        assert (cache.phase, cache.message) == ("Failed", "the hub answers 401: name a Secret")
        assert events(world).count(("Warning", "TokenMissing")) == 1

    async def test_engines_that_answer_are_not_unready_for_a_model_that_fails(
        self, world: World
    ) -> None:
        cached_pool(world)
        await world.settle()
        pod = start_download(world, jobs(world)[0])
        fail_download(world, pod, "DiskFull: the volume is full")
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("False", "DiskFull")
        assert world.condition(names.READY) == ("True", "AllReady")

    async def test_a_new_attempt_has_failed_until_it_brings_something(self, world: World) -> None:
        cached_pool(world)
        await world.settle()
        pod = start_download(world, jobs(world)[0])
        ended = {"exitCode": 1, "message": "HubUnreachable: no route"}
        again = {
            "name": "download",
            "restartCount": 1,
            "state": {"running": {}},
            "lastState": {"terminated": ended},
        }
        set_pod_status(world.kube, pod, containerStatuses=[again])
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("False", "HubUnreachable")
        world.downloads.said = {pod["metadata"]["uid"]: HALF}
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("False", "Downloading")

    async def test_an_evicted_pod_says_nothing_once_another_has_taken_its_place(
        self, world: World
    ) -> None:
        cached_pool(world)
        await world.settle()
        (job,) = jobs(world)
        evicted = start_download(world, job)
        set_pod_status(world.kube, evicted, phase="Failed", reason="Evicted")
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("False", "PodFailed")
        start_download(world, job, suffix="y")
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("False", "Downloading")

    async def test_another_token_is_another_job(self, world: World) -> None:
        cached_pool(world, chat(model={"tokenSecret": {"name": "old", "key": "token"}}))
        await world.settle()
        (old,) = jobs(world)
        cached_pool(world, chat(model={"tokenSecret": {"name": "new", "key": "token"}}))
        await world.settle()
        (new,) = jobs(world)
        assert new["metadata"]["name"] != old["metadata"]["name"]
        folder = old["spec"]["template"]["spec"]["containers"][0]["args"][3]
        assert new["spec"]["template"]["spec"]["containers"][0]["args"][3] == folder

    async def test_downloads_run_where_the_engines_may_run(self, world: World) -> None:
        node = {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                    ]
                }
            }
        }
        where = {"nodeSelector": {"gpu": "h100"}, "tolerations": [{"key": "gpu"}]}
        near = {"podAffinity": {}, **node}
        first = chat(
            podTemplate={"spec": {**where, "affinity": near, "runtimeClassName": "nvidia"}}
        )
        cached_pool(world, first, chat(name="other"))
        await world.settle()
        (job,) = jobs(world)
        spec = job["spec"]["template"]["spec"]
        placed = {"affinity", "nodeSelector", "tolerations", "runtimeClassName"} & spec.keys()
        assert {field: spec[field] for field in placed} == {**where, "affinity": node}

    async def test_other_nodes_make_an_unfinished_job_anew_and_leave_a_finished_one(
        self, world: World
    ) -> None:
        def on(node: str) -> dict[str, Any]:
            return chat(podTemplate={"spec": {"nodeSelector": {"pool": node}}})

        cached_pool(world, chat())
        await world.settle()
        (anywhere,) = jobs(world)
        cached_pool(world, on("a"))
        await world.settle()
        (placed,) = jobs(world)
        assert placed["metadata"]["uid"] != anywhere["metadata"]["uid"]
        finish(world, placed)
        await world.settle()
        cached_pool(world, on("b"))
        await world.settle()
        (left,) = jobs(world)
        assert left["metadata"]["uid"] == placed["metadata"]["uid"]

    async def test_another_image_makes_an_unfinished_job_anew_and_leaves_a_finished_one(
        self, world: World
    ) -> None:
        cached_pool(world)
        await world.settle()
        (old,) = jobs(world)
        world.images = type(IMAGES)(own="registry/sagepool:2")
        await world.settle()
        (new,) = jobs(world)
        assert new["metadata"]["uid"] != old["metadata"]["uid"]
        finish(world, new)
        world.images = IMAGES
        await world.settle()
        assert [job["metadata"]["uid"] for job in jobs(world)] == [new["metadata"]["uid"]]

    async def test_a_job_that_somebody_deletes_is_made_again(self, world: World) -> None:
        cached_pool(world)
        await world.settle()
        (job,) = jobs(world)
        finish(world, job)
        await world.settle()
        world.kube.remove(JOBS, KEY.namespace, job["metadata"]["name"])
        await world.settle()
        assert [j["metadata"]["name"] for j in jobs(world)] == [job["metadata"]["name"]]
        assert world.condition(names.MODELS_CACHED) == ("False", "Downloading")

    @pytest.mark.parametrize(
        ("said", "reason", "advice"),
        [
            ('persistentvolumeclaim "models" not found', "ClaimNotFound", "give cache.size"),
            (
                "pod has unbound immediate PersistentVolumeClaims",
                "ClaimPending",
                "kubectl describe pvc models",
            ),
            ("0/3 nodes are available: 3 Insufficient cpu", "Unschedulable", "add a node"),
        ],
    )
    async def test_what_keeps_its_pod_from_a_node_is_named(
        self, world: World, said: str, reason: str, advice: str
    ) -> None:
        cached_pool(world, cache={"type": "pvc", "claimName": "models"})
        await world.settle()
        lost = {"type": "PodScheduled", "status": "False", "message": said}
        start_download(world, jobs(world)[0], conditions=[lost], containerStatuses=[])
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("False", reason)
        assert advice in world.message(names.MODELS_CACHED)

    @pytest.mark.parametrize(
        ("container", "reason", "said"),
        [
            (
                {
                    "state": {
                        "waiting": {"reason": "CreateContainerConfigError", "message": "no hf"}
                    }
                },
                "ContainerConfigInvalid",
                "no hf",
            ),
            (
                {
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                },
                "DownloadCrashing",
                "ran out of memory",
            ),
        ],
    )
    async def test_what_keeps_its_container_from_running_is_named(
        self, world: World, container: Json, reason: str, said: str
    ) -> None:
        cached_pool(world)
        await world.settle()
        status = {"name": "download", "restartCount": 2, **container}
        start_download(world, jobs(world)[0], containerStatuses=[status])
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("False", reason)
        assert said in world.message(names.MODELS_CACHED)

    async def test_a_folder_that_is_not_on_the_node_is_named(self, world: World) -> None:
        cached_pool(world, cache={"type": "hostPath", "path": "/mnt/models"})
        await world.settle()
        container = {
            "name": "download",
            "restartCount": 0,
            "state": {"waiting": {"reason": "ContainerCreating"}},
        }
        unmounted = {"type": "PodReadyToStartContainers", "status": "False"}
        start_download(world, jobs(world)[0], conditions=[unmounted], containerStatuses=[container])
        await world.settle()
        assert world.condition(names.MODELS_CACHED) == ("False", "FolderNotMounted")
        assert "hostPath /mnt/models" in world.message(names.MODELS_CACHED)
