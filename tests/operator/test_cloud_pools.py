"""Pools with a provider, and router pods that wait for a Secret."""

from typing import Any

import pytest

from crd_objects import cloud_object, instance_object
from operator_world import KEY, FakeProviders, World, set_pod_status
from sagepool_crds import names
from sagepool_engines.probe import ProbeResult
from sagepool_kube.api import DEPLOYMENTS, EVENTS, INSTANCES


@pytest.fixture
async def world() -> World:
    """A settled pool whose provider helps out."""
    world = World()
    world.apply_pool(cloud=cloud_object())
    await world.settle()
    return world


def sources(world: World) -> dict[str, str]:
    return {model.name: model.source for model in world.status.models}


class TestSourceCloud:
    async def test_stops_every_engine_and_is_ready_with_its_router(self, world: World) -> None:
        world.edit_pool(lambda pool: pool["spec"].update(source="cloud"))
        await world.settle()
        assert world.instances() == []
        assert world.condition(names.READY) == ("True", "CloudOnly")
        assert "requests go to https://api.example.com/v1" in world.message()
        assert world.condition(names.PROGRESSING) == ("False", "Settled")
        assert world.deployment("rag-router")["spec"]["replicas"] == 2
        assert world.status.ready == "0/0"
        assert sources(world) == {"qwen2.5-7b": "cloud", "bge-m3": "cloud"}
        (event,) = [e for e in world.kube.all(EVENTS) if e["reason"] == "CloudOnly"]
        assert event["type"] == "Normal"

    async def test_change_of_source_needs_no_new_router(self, world: World) -> None:
        before = world.deployment("rag-router")["spec"]["template"]
        for source in ("cloud", "local", "auto"):
            world.edit_pool(lambda pool, source=source: pool["spec"].update(source=source))
            await world.settle()
            assert world.deployment("rag-router")["spec"]["template"] == before
        assert world.condition(names.READY) == ("True", "AllReady")
        assert len(world.instances()) == 3

    async def test_model_without_a_counterpart_is_named(self, world: World) -> None:
        cloud = cloud_object(models={"qwen2.5-7b": "their-chat"})
        world.apply_pool(source="cloud", cloud=cloud)
        await world.settle()
        assert world.condition(names.READY) == ("True", "CloudOnly")
        assert "nobody answers for bge-m3: map it in cloud.models" in world.message()
        assert sources(world) == {"qwen2.5-7b": "cloud", "bge-m3": ""}

    async def test_is_not_ready_without_a_router(self, world: World) -> None:
        world.edit_pool(lambda pool: pool["spec"].update(source="cloud"))
        await world.settle()
        world.kube.edit(
            DEPLOYMENTS, "default", "rag-router", lambda d: d["status"].update(readyReplicas=0)
        )
        await world.reconcile()
        assert world.condition(names.READY) == ("False", "RouterNotReady")

    async def test_engine_elsewhere_that_is_lost_does_not_matter(self, world: World) -> None:
        world.probes.results["elsewhere"] = ProbeResult("Unreachable", "no answer")
        world.kube.put(INSTANCES, instance_object())
        world.edit_pool(lambda pool: pool["spec"].update(source="cloud"))
        await world.settle()
        assert world.condition(names.READY) == ("True", "CloudOnly")

    async def test_suspended_pool_stays_suspended(self, world: World) -> None:
        world.edit_pool(lambda pool: pool["spec"].update(source="cloud", suspend=True))
        await world.settle()
        assert world.condition(names.READY) == ("False", "Suspended")


class TestOtherSources:
    @pytest.mark.parametrize("source", ["auto", "local"])
    async def test_run_engines_that_answer(self, world: World, source: str) -> None:
        world.edit_pool(lambda pool: pool["spec"].update(source=source))
        await world.settle()
        assert world.condition(names.READY) == ("True", "AllReady")
        assert sources(world) == {"qwen2.5-7b": "local", "bge-m3": "local"}

    async def test_nobody_of_the_pool_answers_for_a_model_without_an_engine(
        self, world: World
    ) -> None:
        world.edit_group("embed", replicas=0)
        await world.settle()
        assert sources(world) == {"qwen2.5-7b": "local", "bge-m3": ""}

    async def test_provider_rolls_no_engine(self, world: World) -> None:
        before = {n: world.deployment(n)["spec"] for n in ("rag-chat", "rag-embed")}
        world.apply_pool(router={"auth": {"apiKeysSecret": "rag-keys"}})
        await world.settle()
        assert {n: world.deployment(n)["spec"] for n in before} == before
        volumes = world.deployment("rag-router")["spec"]["template"]["spec"]["volumes"]
        assert [v["name"] for v in volumes] == ["tmp", "api-keys"]


class TestMissingSecret:
    def starve(self, world: World, ready: int, **status: Any) -> None:
        """The first router pod waits for its volumes; so many pods answer."""
        (pod, *_) = world.pods_of_router()
        waiting = {"reason": "ContainerCreating"}
        set_pod_status(
            world.kube,
            pod,
            phase="Pending",
            conditions=[{"type": "PodReadyToStartContainers", "status": "False"}],
            containerStatuses=[{"name": "router", "state": {"waiting": waiting}}],
        )
        world.kube.edit(
            DEPLOYMENTS,
            "default",
            "rag-router",
            lambda d: d["status"].update(readyReplicas=ready, **status),
        )

    async def test_is_named_with_the_way_out(self, world: World) -> None:
        self.starve(world, ready=0)
        await world.reconcile()
        assert world.condition(names.ROUTER_READY) == ("False", "SecretNotMounted")
        said = world.message(names.ROUTER_READY)
        assert "waits for Secret provider with key token (cloud.apiKeySecret)" in said
        assert "create what is missing in this namespace" in said
        assert world.condition(names.READY) == ("False", "RouterNotReady")
        assert said == world.message(names.READY)

    async def test_is_named_while_old_routers_still_answer(self, world: World) -> None:
        world.apply_pool(router={"auth": {"apiKeysSecret": "rag-keys"}})
        await world.settle()
        self.starve(world, ready=2, updatedReplicas=1, replicas=3)
        await world.reconcile()
        assert world.condition(names.ROUTER_READY) == ("True", "SecretNotMounted")
        assert "Secret rag-keys (router.auth.apiKeysSecret)" in world.message(names.ROUTER_READY)
        assert world.condition(names.READY) == ("True", "AllReady")

    async def test_router_that_mounts_none_is_just_starting(self) -> None:
        world = World()
        world.apply_pool()
        await world.settle()
        self.starve(world, ready=1)
        await world.reconcile()
        assert world.condition(names.ROUTER_READY) == ("True", "RouterShort")
        assert world.condition(names.PROGRESSING) == ("True", "Starting")


class TestProviderThatCannotBeReached:
    URL = "https://api.example.com/v1"

    def told(self, world: World) -> list[str]:
        mine = ("CloudReachable", "CloudUnreachable")
        return [e["reason"] for e in world.kube.all(EVENTS) if e["reason"] in mine]

    async def test_is_told_in_a_condition_and_in_an_event_when_it_turns(self, world: World) -> None:
        assert world.condition(names.CLOUD_REACHABLE) == ("True", "CloudReachable")
        assert self.told(world) == []
        world.providers.errors[self.URL] = "it does not answer in time"
        await world.settle()
        assert world.condition(names.CLOUD_REACHABLE) == ("False", "CloudUnreachable")
        assert "check cloud.baseUrl" in world.message(names.CLOUD_REACHABLE)
        assert world.condition(names.READY) == ("True", "AllReady")
        del world.providers.errors[self.URL]
        await world.settle()
        assert self.told(world) == ["CloudUnreachable", "CloudReachable"]

    async def test_leaves_a_pool_without_engines_unready(self, world: World) -> None:
        world.providers.errors[self.URL] = "it answers 503"
        world.edit_pool(lambda pool: pool["spec"].update(source="cloud"))
        await world.settle()
        assert world.condition(names.READY) == ("False", "CloudUnreachable")
        assert self.told(world) == ["CloudUnreachable"]

    @pytest.mark.parametrize("change", [{"source": "local"}, {"suspend": True}])
    async def test_is_not_asked_where_no_request_may_go_to_it(
        self, world: World, change: dict[str, Any]
    ) -> None:
        world.edit_pool(lambda pool: pool["spec"].update(change))
        await world.settle()
        assert world.providers.asked == {KEY: ""}
        assert world.condition(names.CLOUD_REACHABLE) == ("", "")

    async def test_stays_told_while_a_new_operator_has_not_asked_yet(self, world: World) -> None:
        world.providers.errors[self.URL] = "it answers 503"
        await world.settle()
        writes = world.write_count()
        world.providers = FakeProviders()
        await world.reconcile()
        assert world.condition(names.CLOUD_REACHABLE) == ("False", "CloudUnreachable")
        assert world.write_count() == writes
