"""The operator against a cluster in memory: a pool's whole life, step by step."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from crd_objects import group_object, instance_object
from operator_world import (
    KEY,
    Json,
    World,
    instance_condition,
    play_cluster,
    run_pod,
    set_pod_status,
    start_deleting,
)
from sagepool_crds import names
from sagepool_engines.dialects import EngineLoad
from sagepool_engines.probe import ProbeResult
from sagepool_engines.space import describe_space
from sagepool_kube.api import (
    DEPLOYMENTS,
    EVENTS,
    INSTANCES,
    PODS,
    POOLS,
    SERVICES,
    Object,
)
from sagepool_kube.errors import Forbidden, Invalid, Unavailable
from sagepool_operator import recorded
from sagepool_operator.config import Images
from sagepool_operator.errors import ReconcileError
from sagepool_operator.snapshot import CHILD_KINDS


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def settled(world: World) -> World:
    world.apply_pool()
    await world.settle()
    return world


def in_space(*vector: float) -> ProbeResult:
    """A ready engine that makes this vector of the probe text."""
    return ProbeResult("EngineReady", space=describe_space(vector))


def events(world: World) -> list[tuple[str, str]]:
    return [(e["regarding"]["kind"], e["reason"]) for e in world.kube.all(EVENTS)]


class TestNewPool:
    async def test_gets_engines_a_router_and_instances_and_becomes_ready(
        self, settled: World
    ) -> None:
        assert settled.deployment_names() == {"rag-chat", "rag-embed", "rag-router"}
        assert len(settled.instances("chat")) == 2
        assert len(settled.instances("embed")) == 1
        assert settled.condition(names.READY) == ("True", "AllReady")
        assert settled.condition(names.PROGRESSING) == ("False", "Settled")
        assert settled.condition(names.ROUTER_READY) == ("True", "RouterReady")
        assert settled.condition(names.SCHEDULED) == ("True", "AllScheduled")

    async def test_status_answers_the_first_questions(self, settled: World) -> None:
        status = settled.status
        assert status.ready == "3/3"
        assert status.model_names == "qwen2.5-7b, bge-m3"
        assert status.endpoint == "http://rag-router.default.svc/v1"
        assert status.observed_generation == settled.pool.metadata.generation
        assert [(m.name, m.role, m.ready, m.desired) for m in status.models] == [
            ("qwen2.5-7b", "llm", 2, 2),
            ("bge-m3", "embedding", 1, 1),
        ]

    async def test_instances_carry_what_the_router_needs(self, settled: World) -> None:
        instance = settled.instances("embed")[0]
        pod = settled.pods("embed")[0]
        assert instance["metadata"]["name"] == pod["metadata"]["name"]
        assert instance["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
        assert instance["spec"]["endpoints"] == [
            {
                "role": "embedding",
                "url": f"http://{pod['status']['podIP']}:8000",
                "models": ["bge-m3"],
            }
        ]
        assert instance["status"]["phase"] == "Ready"
        assert instance_condition(instance)["status"] == "True"

    async def test_everything_made_is_owned_by_the_pool(self, settled: World) -> None:
        uid = settled.pool.metadata.uid
        for kind in CHILD_KINDS:
            for obj in settled.kube.all(kind):
                assert [o["uid"] for o in obj["metadata"]["ownerReferences"]] == [uid]

    async def test_users_object_gets_neither_finalizer_nor_annotation(self, settled: World) -> None:
        meta = settled.kube.read(POOLS, "default", "rag")["metadata"]
        assert not meta.get("finalizers")
        assert not meta.get("annotations")

    async def test_is_told_in_events_once(self, settled: World) -> None:
        assert sorted(events(settled)) == sorted(
            [("InferencePool", "Created")] * 3
            + [("InferenceInstance", "Ready")] * 3
            + [("InferencePool", "AllReady")]
        )


class TestNewEngine:
    def pods(self, world: World, age_s: float) -> list[str]:
        """The pods of the chat group, which are that old and have no address."""
        for pod in world.pods("chat"):

            def change(live: Json) -> None:
                made_at = world.now - timedelta(seconds=age_s)
                live["metadata"]["creationTimestamp"] = made_at.strftime("%Y-%m-%dT%H:%M:%SZ")

            world.kube.edit(PODS, KEY.namespace, pod["metadata"]["name"], change)
        return [pod["metadata"]["name"] for pod in world.pods("chat")]

    async def starting(self, world: World) -> None:
        """Deployments are there, and pods that do not run."""
        world.broken_groups = {"chat"}
        world.apply_pool()
        await world.reconcile()
        play_cluster(world.kube, world.broken_groups)

    async def test_is_written_when_its_pod_has_an_address(self, world: World) -> None:
        await self.starting(world)
        names_of_pods = self.pods(world, age_s=1)
        again_s = await world.reconcile()
        assert again_s is not None
        assert 0 < again_s <= 15
        assert world.instances("chat") == []
        world.kube.writes.clear()
        world.broken_groups.clear()
        await world.settle()
        writes = [
            (write.verb, write.subresource)
            for write in world.kube.writes
            if write.kind == INSTANCES and write.name == names_of_pods[0]
        ]
        # It is there, it is ready, and the routers have it: nothing of the moments in between.
        assert writes == [("apply", ""), ("apply", "status")]

    async def test_is_shown_without_an_address_when_that_takes_long(self, world: World) -> None:
        await self.starting(world)
        self.pods(world, age_s=15)
        await world.settle()
        assert [i["status"]["phase"] for i in world.instances("chat")] == ["Pending", "Pending"]

    async def test_is_shown_at_once_when_there_is_no_place_for_it(self, world: World) -> None:
        await self.starting(world)
        self.pods(world, age_s=0)
        condition = {"type": "PodScheduled", "status": "False", "message": "no GPU"}
        for pod in world.pods("chat"):
            set_pod_status(world.kube, pod, conditions=[condition])
        await world.settle()
        assert {i["status"]["message"] for i in world.instances("chat")} != {""}
        assert len(world.instances("chat")) == 2


class TestOutage:
    async def test_outage_in_the_middle_is_only_a_delay(self, world: World) -> None:
        world.apply_pool()
        world.kube.fail_next("apply", Unavailable("connection refused"), SERVICES)
        with pytest.raises(Unavailable):
            await world.reconcile()
        await world.settle()
        assert world.condition(names.READY) == ("True", "AllReady")


class TestSettledPool:
    async def test_causes_no_request_at_all(self, settled: World) -> None:
        settled.kube.calls.clear()
        for _ in range(3):
            await settled.reconcile()
            settled.later(60)
            settled.probes.probe()
        assert settled.kube.calls == []

    async def test_stays_silent_when_the_operator_is_upgraded(self, settled: World) -> None:
        before = {n: settled.deployment(n) for n in ("rag-chat", "rag-embed")}
        settled.images = Images(own="registry/sagepool:2", vllm="vllm:next")
        await settled.settle()
        assert {n: settled.deployment(n) for n in before} == before
        router = settled.deployment("rag-router")["spec"]["template"]["spec"]
        assert router["containers"][0]["image"] == "registry/sagepool:2"

    async def test_new_pull_settings_roll_the_router_and_no_engine(self, settled: World) -> None:
        before = {n: settled.deployment(n) for n in ("rag-chat", "rag-embed")}
        settled.images = replace(settled.images, pull_policy="Always", pull_secrets=("registry",))
        await settled.settle()
        assert {n: settled.deployment(n) for n in before} == before
        router = settled.deployment("rag-router")["spec"]["template"]["spec"]
        assert router["imagePullSecrets"] == [{"name": "registry"}]

    async def test_pull_secret_that_was_missing_reaches_engines_that_could_not_start(
        self, world: World
    ) -> None:
        world.broken_groups.add("chat")
        world.apply_pool()
        await world.settle()
        waiting = {"reason": "ImagePullBackOff", "message": "unauthorized"}
        for pod in world.pods("chat"):
            set_pod_status(
                world.kube,
                pod,
                containerStatuses=[{"name": "engine", "state": {"waiting": waiting}}],
            )
        world.images = replace(world.images, pull_secrets=("registry",))
        await world.reconcile()
        engine = world.deployment("rag-chat")["spec"]["template"]["spec"]
        assert engine["imagePullSecrets"] == [{"name": "registry"}]

    async def test_takes_todays_defaults_when_asked_by_annotation(self, settled: World) -> None:
        settled.images = Images(own="registry/sagepool:2")
        settled.edit_pool(
            lambda pool: pool["metadata"].update(annotations={names.REFRESH_ANNOTATION: "1"})
        )
        await settled.settle()
        assert image(settled, "rag-chat") == "registry/sagepool:2"

    async def test_takes_todays_defaults_for_a_group_that_changes(self, settled: World) -> None:
        settled.images = Images(own="registry/sagepool:2")
        settled.edit_group("chat", engine={"type": "simulator", "args": ["--ttft-ms=5"]})
        await settled.settle()
        assert image(settled, "rag-chat") == "registry/sagepool:2"
        assert sidecar_image(settled, "rag-chat") == "registry/sagepool:2"
        assert image(settled, "rag-embed") == "registry/sagepool:1"
        assert sidecar_image(settled, "rag-embed") == "registry/sagepool:1"

    async def test_engines_of_a_version_without_sidecar_and_gate_run_on_as_they_are(
        self, settled: World
    ) -> None:
        def downgrade(deployment: dict[str, Any]) -> None:
            former = deployment["spec"]["template"]
            for field in ("initContainers", "readinessGates"):
                del former["spec"][field]
            group = settled.pool.spec.groups[0]
            notes = recorded.record(former, recorded.group_digest(settled.pool, group))
            deployment["metadata"]["annotations"].update(notes)

        settled.kube.edit(DEPLOYMENTS, "default", "rag-chat", downgrade)
        former = settled.deployment("rag-chat")["spec"]["template"]
        await settled.settle()
        spec = settled.deployment("rag-chat")["spec"]
        assert spec["template"] == former
        assert spec["minReadySeconds"] > 0
        assert settled.condition(names.READY) == ("True", "AllReady")

        settled.edit_group("chat", engine={"type": "simulator", "args": ["--ttft-ms=5"]})
        await settled.settle()
        assert sidecar_image(settled, "rag-chat") == "registry/sagepool:1"
        assert "minReadySeconds" not in settled.deployment("rag-chat")["spec"]


class TestScaling:
    @pytest.mark.parametrize("replicas", [0, 1, 5])
    async def test_follows_the_spec(self, settled: World, replicas: int) -> None:
        template = settled.deployment("rag-chat")["spec"]["template"]
        settled.edit_group("chat", replicas=replicas)
        await settled.settle()
        assert len(settled.pods("chat")) == len(settled.instances("chat")) == replicas
        assert settled.deployment("rag-chat")["spec"]["template"] == template
        assert settled.status.ready == f"{replicas + 1}/{replicas + 1}"
        assert ("InferencePool", "Scaled") in events(settled)

    async def test_suspend_stops_every_engine_and_keeps_the_address(self, settled: World) -> None:
        settled.edit_pool(lambda pool: pool["spec"].update(suspend=True))
        await settled.settle()
        assert settled.instances() == []
        assert settled.condition(names.READY) == ("False", "Suspended")
        assert "set it to false" in settled.message()
        assert settled.deployment("rag-router")["spec"]["replicas"] == 2
        assert settled.status.endpoint
        settled.edit_pool(lambda pool: pool["spec"].update(suspend=False))
        await settled.settle()
        assert settled.condition(names.READY) == ("True", "AllReady")


class TestRollout:
    async def test_changed_engine_rolls_its_group_only(self, settled: World) -> None:
        others = [p["metadata"]["name"] for p in settled.pods("embed")]
        old = {p["metadata"]["name"] for p in settled.pods("chat")}
        settled.edit_group("chat", model={"name": "llama-3"})
        await settled.settle()
        assert old.isdisjoint(p["metadata"]["name"] for p in settled.pods("chat"))
        assert [p["metadata"]["name"] for p in settled.pods("embed")] == others
        assert "llama-3" in settled.status.model_names
        assert ("InferencePool", "RollingOut") in events(settled)

    async def test_pods_of_the_former_spec_are_still_told_as_what_they_are(
        self, settled: World
    ) -> None:
        before = [one["spec"]["endpoints"] for one in settled.instances("chat")]
        settled.edit_group(
            "chat", model={"name": "llama-3"}, engine={"type": "simulator", "port": 9000}
        )
        await settled.reconcile()
        assert [one["spec"]["endpoints"] for one in settled.instances("chat")] == before
        await settled.settle()
        endpoints = [one["spec"]["endpoints"][0] for one in settled.instances("chat")]
        assert [e["models"] for e in endpoints] == [["llama-3"], ["llama-3"]]
        assert all(e["url"].endswith(":9000") for e in endpoints)

    @pytest.mark.parametrize(
        "fields",
        [
            {"maxConcurrency": 7},
            {"model": {"name": "qwen2.5-7b", "aliases": ["another-alias"]}},
        ],
    )
    async def test_what_only_routers_need_rolls_nothing(
        self, settled: World, fields: dict[str, Any]
    ) -> None:
        names_before = [p["metadata"]["name"] for p in settled.pods("chat")]
        settled.edit_group("chat", **fields)
        await settled.settle()
        assert [p["metadata"]["name"] for p in settled.pods("chat")] == names_before

    async def test_removed_group_goes_with_all_it_had(self, settled: World) -> None:
        settled.edit_pool(lambda pool: pool["spec"]["groups"].pop())
        await settled.settle()
        assert settled.deployment_names() == {"rag-chat", "rag-router"}
        assert settled.instances("embed") == []
        assert [m.name for m in settled.status.models] == ["qwen2.5-7b"]

    async def test_group_may_come_back_with_another_role(self, settled: World) -> None:
        groups = [
            group_object(name="chat", role="llm"),
            group_object(name="embed", model={"name": "m"}),
        ]
        settled.apply_pool(groups=groups)
        await settled.settle()
        assert settled.condition(names.READY) == ("True", "AllReady")
        assert settled.instances("embed")[0]["spec"]["endpoints"][0]["role"] == "llm"


class TestDrift:
    async def test_deleted_child_comes_back(self, settled: World) -> None:
        settled.kube.remove(SERVICES, "default", "rag-router")
        settled.kube.remove(DEPLOYMENTS, "default", "rag-embed")
        await settled.settle()
        assert settled.kube.read(SERVICES, "default", "rag-router")
        assert settled.condition(names.READY) == ("True", "AllReady")

    async def test_fields_that_we_set_come_back(self, settled: World) -> None:
        def change(deployment: dict[str, Any]) -> None:
            deployment["spec"]["replicas"] = 9
            deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
            del deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]

        before = settled.deployment("rag-chat")["spec"]
        settled.kube.edit(DEPLOYMENTS, "default", "rag-chat", change)
        await settled.settle()
        assert settled.deployment("rag-chat")["spec"] == before

    async def test_additions_of_others_stay_and_cause_no_write(self, settled: World) -> None:
        def change(deployment: dict[str, Any]) -> None:
            deployment["metadata"]["annotations"]["their.org/note"] = "x"
            container = deployment["spec"]["template"]["spec"]["containers"][0]
            container["env"] = [{"name": "THEIRS", "value": "1"}]

        settled.kube.edit(DEPLOYMENTS, "default", "rag-chat", change)
        play_cluster(settled.kube)
        await settled.settle()
        writes = [w for w in settled.kube.writes if w.kind == DEPLOYMENTS and w.name == "rag-chat"]
        assert len(writes) == 1
        container = settled.deployment("rag-chat")["spec"]["template"]["spec"]["containers"][0]
        assert container["env"] == [{"name": "THEIRS", "value": "1"}]

    async def test_field_that_the_user_takes_away_goes(self, world: World) -> None:
        engine = {"type": "simulator", "env": [{"name": "A", "value": "1"}]}
        world.apply_pool(groups=[group_object(engine=engine)])
        await world.settle()
        world.edit_group("chat", engine={"type": "simulator"})
        await world.settle()
        container = world.deployment("rag-chat")["spec"]["template"]["spec"]["containers"][0]
        assert not container.get("env")

    async def test_drain_that_a_person_sets_stays(self, settled: World) -> None:
        name = settled.instances("chat")[0]["metadata"]["name"]
        settled.kube.edit(INSTANCES, "default", name, lambda i: i["spec"].update(drain=True))
        await settled.settle()
        instance = settled.kube.read(INSTANCES, "default", name)
        assert instance["spec"]["drain"] is True
        assert instance["status"]["phase"] == "Draining"
        assert instance_condition(instance)["reason"] == "DrainRequested"
        assert instance_condition(instance, names.ENGINE_READY)["status"] == "True"


class TestNamesTaken:
    async def test_objects_of_others_are_never_touched(self, world: World) -> None:
        theirs = world.kube.put(
            DEPLOYMENTS,
            {
                "metadata": {"name": "rag-chat", "namespace": "default"},
                "spec": {"replicas": 0, "template": {"metadata": {"labels": {}}, "spec": {}}},
            },
        )
        world.apply_pool()
        await world.settle()
        live = world.deployment("rag-chat")
        assert {k: live[k] for k in ("metadata", "spec")}["spec"] == theirs["spec"]
        assert "labels" not in live["metadata"]
        assert world.condition(names.READY) == ("False", "NameTaken")
        assert "Deployment rag-chat is there already" in world.message()
        assert "remove it, or rename" in world.message()

    async def test_once_it_is_gone_the_pool_becomes_ready(self, world: World) -> None:
        world.kube.put(SERVICES, {"metadata": {"name": "rag-router", "namespace": "default"}})
        world.apply_pool()
        await world.settle()
        assert world.condition(names.READY) == ("False", "NameTaken")
        assert await world.reconcile() == 5.0  # nothing would wake us when it goes
        world.kube.remove(SERVICES, "default", "rag-router")
        await world.settle()
        assert world.condition(names.READY) == ("True", "AllReady")


class TestDeletion:
    async def test_is_garbage_collection(self, settled: World) -> None:
        settled.kube.remove(POOLS, "default", "rag")
        for kind in (*CHILD_KINDS, PODS, INSTANCES):
            assert settled.kube.all(kind) == []
        await settled.reconcile()

    async def test_leaves_a_pool_that_is_being_deleted_alone(self, settled: World) -> None:
        start_deleting(settled.kube, POOLS, settled.kube.read(POOLS, "default", "rag"))
        settled.kube.remove(SERVICES, "default", "rag-router")
        before = settled.write_count()
        await settled.reconcile()
        assert settled.write_count() == before

    async def test_pod_that_is_being_deleted_leaves_routing_at_once(self, settled: World) -> None:
        pod = settled.pods("chat")[0]
        start_deleting(settled.kube, PODS, pod)
        await settled.reconcile()
        instance = settled.kube.read(INSTANCES, "default", pod["metadata"]["name"])
        assert instance["status"]["phase"] == "Draining"
        assert instance_condition(instance)["status"] == "False"

    async def test_no_instance_is_made_for_a_pod_that_is_leaving(self, settled: World) -> None:
        pod = settled.pods("chat")[0]
        start_deleting(settled.kube, PODS, pod)
        settled.kube.remove(INSTANCES, "default", pod["metadata"]["name"])
        await settled.reconcile()
        assert pod["metadata"]["name"] not in {i["metadata"]["name"] for i in settled.instances()}


class TestTroubleIsExplained:
    async def stuck(self, world: World, **status: Any) -> None:
        world.broken_groups = {"chat"}
        world.apply_pool(
            groups=[group_object(replicas=1, gpu={"count": 1, "resourceName": "nvidia.com/gpu"})]
        )
        await world.settle()
        set_pod_status(world.kube, world.pods("chat")[0], **status)
        await world.settle()

    def refuse(self, world: World, deployment: str, words: str) -> None:
        """The Deployment controller may not make a pod."""
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}

        def change(live: dict[str, Any]) -> None:
            live["status"] = {
                **live.get("status", {}),
                "conditions": [{**failure, "message": words}],
            }

        world.kube.edit(DEPLOYMENTS, "default", deployment, change)

    async def test_no_gpu(self, world: World) -> None:
        said = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
        await self.stuck(
            world,
            conditions=[
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": said,
                }
            ],
        )
        assert world.condition(names.READY) == ("False", "Unschedulable")
        assert world.condition(names.SCHEDULED) == ("False", "Unschedulable")
        assert "1 Insufficient nvidia.com/gpu" in world.message()
        assert "install its device plugin" in world.message()
        assert "group chat" in world.message()
        assert world.instances("chat")[0]["status"]["phase"] == "Pending"
        assert ("InferencePool", "Unschedulable") in events(world)

    async def test_image_that_cannot_be_pulled(self, world: World) -> None:
        waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x:1"'}
        await self.stuck(
            world, containerStatuses=[{"name": "engine", "state": {"waiting": waiting}}]
        )
        assert world.condition(names.READY) == ("False", "ImagePullFailed")
        assert "check engine.image of group chat, or add a pull secret" in world.message()
        assert world.status.groups[0].message

    async def test_routers_image_that_cannot_be_pulled(self, settled: World) -> None:
        waiting = {"reason": "ErrImagePull", "message": "unauthorized"}
        (pod, *_) = settled.pods_of_router()
        set_pod_status(
            settled.kube, pod, containerStatuses=[{"name": "router", "state": {"waiting": waiting}}]
        )
        settled.kube.edit(
            DEPLOYMENTS, "default", "rag-router", lambda d: d["status"].update(readyReplicas=0)
        )
        await settled.reconcile()
        assert settled.condition(names.ROUTER_READY) == ("False", "ImagePullFailed")
        said = settled.message(names.ROUTER_READY)
        assert "unauthorized: check the operator's setting SAGEPOOL_OPERATOR_IMAGE, or" in said
        assert "service account rag-router" in said
        assert "SAGEPOOL_OPERATOR_IMAGE_PULL_SECRETS" in said

    async def test_pods_that_the_api_server_refuses(self, world: World) -> None:
        world.apply_pool()
        await world.reconcile()
        self.refuse(world, "rag-embed", 'pods "rag-embed-1" is forbidden: exceeded quota: team')
        await world.reconcile()
        assert world.condition(names.READY) == ("False", "PodsRefused")
        assert world.condition(names.PROGRESSING) == ("False", "PodsRefused")
        assert "group embed: pods " in world.message()
        assert "exceeded quota: team: raise the ResourceQuota" in world.message()
        assert [bool(group.message) for group in world.status.groups] == [False, True]
        assert ("InferencePool", "PodsRefused") in events(world)
        await world.settle()
        assert world.condition(names.READY) == ("True", "AllReady")

    async def test_router_pods_that_the_api_server_refuses(self, world: World) -> None:
        world.apply_pool()
        await world.reconcile()
        self.refuse(world, "rag-router", "exceeded quota: team")
        await world.reconcile()
        assert world.condition(names.ROUTER_READY) == ("False", "PodsRefused")
        assert "exceeded quota: team" in world.message(names.READY)

    async def test_refusal_is_told_before_the_pod_that_a_new_one_should_replace(
        self, settled: World
    ) -> None:
        pod = settled.pods("embed")[0]
        set_pod_status(settled.kube, pod, phase="Failed", reason="Evicted", containerStatuses=[])
        self.refuse(settled, "rag-embed", "exceeded quota: team")
        await settled.reconcile()
        assert settled.condition(names.READY) == ("False", "PodsRefused")

    async def test_bad_default_image_is_not_kept(self, world: World) -> None:
        waiting = {"reason": "ErrImagePull", "message": "not found"}
        await self.stuck(
            world, containerStatuses=[{"name": "engine", "state": {"waiting": waiting}}]
        )
        world.images = Images(own="registry/sagepool:fixed")
        await world.settle()
        assert image(world, "rag-chat") == "registry/sagepool:fixed"

    async def test_crash(self, settled: World) -> None:
        pod = settled.pods("embed")[0]
        ended = {"exitCode": 137, "reason": "OOMKilled"}
        set_pod_status(
            settled.kube,
            pod,
            containerStatuses=[
                {
                    "name": "engine",
                    "restartCount": 3,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": ended},
                }
            ],
        )
        await settled.settle()
        assert settled.condition(names.READY) == ("False", "OutOfMemory")
        assert "ran out of memory, restarted 3 times" in settled.message()

    async def test_operator_that_restarts_takes_no_engine_out_of_routing(
        self, settled: World
    ) -> None:
        settled.kube.writes.clear()
        settled.probes.found = {}
        await settled.reconcile()
        assert settled.kube.writes == []
        assert settled.condition(names.READY) == ("True", "AllReady")

    async def test_engine_that_restarts_is_not_ready_before_it_is_probed_again(
        self, settled: World
    ) -> None:
        pod = settled.pods("embed")[0]
        run_pod(settled.kube, pod, restarts=1)
        await settled.reconcile()
        instance = settled.instances("embed")[0]
        assert instance_condition(instance, names.ENGINE_READY)["reason"] == "EngineLoading"
        assert "started again" in instance["status"]["message"]
        await settled.settle()
        assert settled.condition(names.READY) == ("True", "AllReady")

    async def test_write_that_the_api_server_refuses(self, world: World) -> None:
        world.apply_pool()
        world.kube.fail_next("apply", Invalid("Deployment rag-chat: bad env name"), DEPLOYMENTS)
        with pytest.raises(ReconcileError, match="bad env name"):
            await world.reconcile()
        assert world.condition(names.READY) == ("False", "WriteRefused")
        assert "bad env name" in world.message()
        assert {"rag-chat", "rag-embed"} <= world.deployment_names()
        await world.settle()
        assert world.condition(names.READY) == ("True", "AllReady")

    async def test_missing_right_is_named(self, world: World) -> None:
        world.apply_pool()
        world.kube.fail_next("apply", Forbidden("cannot patch services"), SERVICES)
        with pytest.raises(ReconcileError, match="cannot patch services: give the operator's"):
            await world.reconcile()
        assert "cannot patch services" in world.message()

    async def test_event_that_cannot_be_posted_fails_nothing(self, world: World) -> None:
        world.apply_pool()
        world.kube.fail_next("create", Forbidden("cannot create events"), EVENTS)
        await world.settle()
        assert world.condition(names.READY) == ("True", "AllReady")


class TestEnginesElsewhere:
    def put(self, world: World, name: str = "elsewhere", **spec: Any) -> None:
        obj = instance_object(**spec)
        obj["metadata"]["name"] = name
        world.kube.put(INSTANCES, obj)

    async def test_are_probed_and_counted_like_the_others(self, settled: World) -> None:
        self.put(settled)
        await settled.settle()
        assert settled.status.ready == "4/4"
        assert next((m.name, m.ready) for m in settled.status.models) == ("qwen2.5-7b", 3)

    async def test_may_bring_a_model_of_their_own(self, settled: World) -> None:
        endpoint = {"role": "llm", "url": "http://10.9.9.9:80", "models": ["big"]}
        self.put(settled, endpoints=[endpoint])
        await settled.settle()
        assert settled.status.model_names == "qwen2.5-7b, bge-m3, big"

    async def test_that_do_not_answer_are_named(self, settled: World) -> None:
        settled.probes.results["elsewhere"] = ProbeResult("Unreachable", "no answer")
        self.put(settled)
        await settled.settle()
        assert settled.condition(names.READY) == ("False", "EnginesNotReady")
        assert "elsewhere" in settled.message()
        instance = settled.kube.read(INSTANCES, "default", "elsewhere")
        assert instance["status"]["phase"] == "Failed"
        assert "no answer: see that" in instance["status"]["message"]
        assert "check spec.endpoints[].url" in instance["status"]["message"]

    async def test_may_not_take_a_model_name_in_another_role(self, settled: World) -> None:
        endpoint = {"role": "embedding", "url": "http://10.9.9.9:80", "models": ["gpt-4o-mini"]}
        self.put(settled, endpoints=[endpoint])
        await settled.settle()
        instance = settled.kube.read(INSTANCES, "default", "elsewhere")
        assert instance_condition(instance)["reason"] == "ModelNameTaken"
        assert "belongs to group chat" in instance["status"]["message"]
        assert "under another name" in instance["status"]["message"]
        assert settled.condition(names.READY) == ("False", "ModelNameTaken")

    async def test_in_another_embedding_space_get_no_requests(self, settled: World) -> None:
        settled.probes.results["elsewhere"] = in_space(0.6, 0.8, 0.0)
        settled.probes.results["stranger"] = in_space(0.8, -0.6, 0.0)
        endpoint = {"role": "embedding", "url": "http://10.9.9.9:80", "models": ["other"]}
        self.put(settled, endpoints=[endpoint])
        await settled.settle()
        self.put(settled, "stranger", endpoints=[endpoint])
        await settled.settle()
        first, second = (
            settled.kube.read(INSTANCES, "default", n) for n in ("elsewhere", "stranger")
        )
        assert instance_condition(first)["status"] == "True"
        assert instance_condition(second)["reason"] == "OtherEmbeddingSpace"
        assert instance_condition(second, names.ENGINE_READY)["status"] == "True"
        assert "model other is in another embedding space" in second["status"]["message"]
        assert settled.condition(names.READY) == ("False", "OtherEmbeddingSpace")
        assert events(settled).count(("InferenceInstance", "OtherEmbeddingSpace")) == 1

    async def test_of_two_the_first_by_name_has_the_model_name(self, settled: World) -> None:
        one = {"role": "llm", "url": "http://10.9.9.1:80", "models": ["x"]}
        self.put(settled, "a", endpoints=[one])
        self.put(settled, "b", endpoints=[{**one, "role": "embedding"}])
        await settled.settle()
        a, b = (settled.kube.read(INSTANCES, "default", n) for n in "ab")
        assert instance_condition(a)["status"] == "True"
        assert "belongs to instance a" in b["status"]["message"]

    async def test_that_are_drained_are_not_missed(self, settled: World) -> None:
        self.put(settled, drain=True)
        await settled.settle()
        assert settled.status.ready == "3/3"
        assert settled.condition(names.READY) == ("True", "AllReady")

    async def test_of_an_unknown_pool_are_told_so(self, world: World) -> None:
        self.put(world)
        await world.settle()
        instance = world.kube.read(INSTANCES, "default", "elsewhere")
        assert instance_condition(instance)["reason"] == "PoolNotFound"
        assert "InferencePool rag does not exist" in instance["status"]["message"]
        assert world.probes.targets[KEY] == ()


class TestLoad:
    def busy(self, world: World, running: int) -> None:
        for instance in world.instances():
            world.probes.results[instance["metadata"]["name"]] = ProbeResult(
                "EngineReady", load=EngineLoad(running, 0, 0.5)
            )
        world.probes.probe()

    async def test_is_written_at_most_every_ten_seconds(self, settled: World) -> None:
        settled.later(60)
        self.busy(settled, 3)
        await settled.reconcile()
        settled.later(4)
        self.busy(settled, 100)
        before = settled.write_count()
        assert await settled.reconcile() == pytest.approx(6)
        assert settled.write_count() == before
        settled.later(6)
        await settled.reconcile()
        assert [i["status"]["load"]["running"] for i in settled.instances()] == [94, 94, 94]

    async def test_that_stays_within_a_step_is_not_written(self, settled: World) -> None:
        settled.later(60)
        self.busy(settled, 100)
        await settled.reconcile()
        settled.later(60)
        self.busy(settled, 105)
        before = settled.write_count()
        await settled.reconcile()
        assert settled.write_count() == before

    async def test_engine_that_is_lost_is_written_at_once(self, settled: World) -> None:
        settled.later(60)
        self.busy(settled, 3)
        await settled.reconcile()
        settled.later(1)
        name = settled.instances("embed")[0]["metadata"]["name"]
        settled.probes.results[name] = ProbeResult("Unreachable", "connection refused")
        settled.probes.probe()
        await settled.reconcile()
        instance = settled.kube.read(INSTANCES, "default", name)
        assert instance["status"]["phase"] == "Failed"
        assert "load" not in instance["status"]
        assert settled.condition(names.READY) == ("False", "Unreachable")


def image(world: World, deployment: str) -> str:
    spec: Object = world.deployment(deployment)["spec"]["template"]["spec"]
    return str(spec["containers"][0]["image"])


def sidecar_image(world: World, deployment: str) -> str:
    spec: Object = world.deployment(deployment)["spec"]["template"]["spec"]
    return str(spec["initContainers"][0]["image"])
