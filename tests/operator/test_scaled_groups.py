"""Groups without a fixed number of engines, in a cluster in memory: whose the number is."""

from typing import Any

import pytest

from crd_objects import cloud_object, group_object
from operator_world import KEY, World
from sagepool_crds import names
from sagepool_kube.api import DEPLOYMENTS, EVENTS, POOLS
from sagepool_operator.autoscaling.decision import Decision
from sagepool_operator.autoscaling.scene import Scene

AUTO = {"minReplicas": 1, "maxReplicas": 5, "target": {"inFlight": 10}}
EXTERNAL = {"mode": "external"}


def scaled(**scaling: Any) -> list[dict[str, Any]]:
    return [group_object(replicas=None, scaling=scaling)]


@pytest.fixture
def world() -> World:
    return World()


def count(world: World) -> int:
    """What the group's Deployment asks for."""
    return int(world.deployment("rag-chat")["spec"].get("replicas", 1))


def scale_by_hand(world: World, replicas: int) -> None:
    """`kubectl scale`, or what an autoscaler does."""
    world.kube.edit(
        DEPLOYMENTS, KEY.namespace, "rag-chat", lambda d: d["spec"].update(replicas=replicas)
    )


async def decide(world: World, replicas: int, reason: str = "busy") -> None:
    world.scaler.decided = {"chat": Decision(replicas, reason)}
    await world.settle()
    world.scaler.decided = {}


def scene(world: World) -> Scene:
    assert world.scaler.scene is not None
    return world.scaler.scene


class TestByTheOperator:
    @pytest.mark.parametrize(("least", "expected"), [(0, 0), (1, 1), (3, 3)])
    async def test_a_new_group_begins_with_the_least(
        self, world: World, least: int, expected: int
    ) -> None:
        world.apply_pool(groups=scaled(**{**AUTO, "minReplicas": least}))
        await world.settle()
        assert count(world) == len(world.instances("chat")) == expected
        assert world.condition(names.READY) == ("True", "AllReady")

    async def test_a_decision_is_carried_out_and_told(self, world: World) -> None:
        world.apply_pool(groups=scaled(**AUTO))
        await world.settle()
        await decide(world, 3, "32 requests in flight or waiting, 10 an engine")
        assert count(world) == len(world.instances("chat")) == 3
        assert [g.desired for g in world.status.groups] == [3]
        notes = [e["note"] for e in world.kube.all(EVENTS) if e["reason"] == "Scaled"]
        assert notes == [
            "Deployment rag-chat, replicas: 1 -> 3: 32 requests in flight or waiting, 10 an engine"
        ]

    async def test_the_number_stays_when_the_operator_starts_anew(self, world: World) -> None:
        world.apply_pool(groups=scaled(**AUTO))
        await world.settle()
        await decide(world, 4)
        await world.settle(world.reconciler())
        assert count(world) == 4

    async def test_a_settled_group_causes_no_request_at_all(self, world: World) -> None:
        world.apply_pool(groups=scaled(**AUTO))
        await world.settle()
        await decide(world, 3)
        await world.settle()
        world.kube.calls.clear()
        for _ in range(3):
            await world.reconcile()
        assert world.kube.calls == []

    @pytest.mark.parametrize(
        ("change", "expected"), [({"maxReplicas": 2}, 2), ({"minReplicas": 4}, 4)]
    )
    async def test_new_bounds_hold_at_once(
        self, world: World, change: dict[str, int], expected: int
    ) -> None:
        world.apply_pool(groups=scaled(**AUTO))
        await world.settle()
        await decide(world, 3)
        world.edit_group("chat", scaling={**AUTO, **change})
        await world.settle()
        assert count(world) == expected

    async def test_a_number_set_by_hand_is_where_it_goes_on_from(self, world: World) -> None:
        world.apply_pool(groups=scaled(**AUTO))
        await world.settle()
        scale_by_hand(world, 2)
        await world.settle()
        assert (count(world), scene(world).groups[0].wanted) == (2, 2)

    async def test_no_pod_changes_when_only_the_scaling_does(self, world: World) -> None:
        world.apply_pool(groups=scaled(**AUTO))
        await world.settle()
        before = [pod["metadata"]["uid"] for pod in world.pods("chat")]
        world.edit_group("chat", scaling={**AUTO, "target": {"inFlight": 99}})
        await world.settle()
        assert [pod["metadata"]["uid"] for pod in world.pods("chat")] == before

    async def test_a_suspended_pool_has_no_engine_and_begins_with_the_least(
        self, world: World
    ) -> None:
        world.apply_pool(groups=scaled(**AUTO))
        await world.settle()
        await decide(world, 4)
        world.edit_pool(lambda pool: pool["spec"].update(suspend=True))
        await decide(world, 4)
        assert (count(world), world.scaler.scene) == (0, None)
        world.edit_pool(lambda pool: pool["spec"].update(suspend=False))
        await world.settle()
        assert count(world) == 1

    async def test_nothing_runs_while_the_provider_answers_alone(self, world: World) -> None:
        world.apply_pool(groups=scaled(**AUTO), source="cloud", cloud=cloud_object())
        await world.settle()
        assert (count(world), world.scaler.scene) == (0, None)


class TestWhatIsLookedAt:
    async def test_routers_and_engines_as_they_are(self, world: World) -> None:
        world.apply_pool(groups=scaled(**AUTO), router={"replicas": 2})
        await world.settle()
        await decide(world, 2)
        found = scene(world)
        pods = world.pods_of_router()
        assert {(r.uid, r.url) for r in found.routers} == {
            (pod["metadata"]["uid"], f"http://{pod['status']['podIP']}:9090") for pod in pods
        }
        (group,) = found.groups
        assert (group.name, group.wanted, group.ready_since) == ("chat", 2, (world.now,) * 2)

    async def test_a_pool_with_fixed_numbers_is_not(self, world: World) -> None:
        world.apply_pool()
        await world.settle()
        assert world.scaler.scene is None

    async def test_a_pool_that_is_gone_is_not_any_more(self, world: World) -> None:
        world.apply_pool(groups=scaled(**AUTO))
        await world.settle()
        world.kube.remove(POOLS, KEY.namespace, KEY.name)
        await world.reconcile()
        assert world.scaler.scene is None


class TestByOthers:
    async def test_a_new_group_begins_with_one_and_says_whose_the_number_is(
        self, world: World
    ) -> None:
        world.apply_pool(groups=scaled(**EXTERNAL))
        await world.settle()
        deployment = world.deployment("rag-chat")
        assert "replicas" not in deployment["spec"]
        assert deployment["metadata"]["annotations"][names.REPLICAS_ANNOTATION] == "external"
        assert world.status.groups[0].desired == 1

    async def test_what_others_set_stays_and_is_what_should_run(self, world: World) -> None:
        world.apply_pool(groups=scaled(**EXTERNAL))
        await world.settle()
        for replicas in (4, 0, 2):
            scale_by_hand(world, replicas)
            await world.settle()
            assert count(world) == world.status.groups[0].desired == replicas
            assert len(world.instances("chat")) == replicas

    async def test_it_stays_when_the_group_changes_otherwise(self, world: World) -> None:
        world.apply_pool(groups=scaled(**EXTERNAL))
        await world.settle()
        scale_by_hand(world, 4)
        world.edit_group("chat", engine={"type": "simulator", "args": ["--seed=1"]})
        await world.settle()
        assert count(world) == 4

    @pytest.mark.parametrize("before", [{"replicas": 3}, {"scaling": AUTO}])
    async def test_the_number_is_handed_over_as_it_is(
        self, world: World, before: dict[str, Any]
    ) -> None:
        world.apply_pool(groups=[group_object(**{"replicas": None, **before})])
        await world.settle()
        if "scaling" in before:
            await decide(world, 3)
        world.apply_pool(groups=scaled(**EXTERNAL))
        await world.settle()
        assert count(world) == 3
        scale_by_hand(world, 5)
        await world.settle()
        assert count(world) == 5

    async def test_it_is_taken_back_when_the_spec_says_a_number_again(self, world: World) -> None:
        world.apply_pool(groups=scaled(**EXTERNAL))
        await world.settle()
        scale_by_hand(world, 4)
        world.apply_pool(groups=[group_object(replicas=2)])
        await world.settle()
        assert count(world) == 2
        annotations = world.deployment("rag-chat")["metadata"]["annotations"]
        assert names.REPLICAS_ANNOTATION not in annotations
        scale_by_hand(world, 4)
        await world.settle()
        assert count(world) == 2

    async def test_a_settled_group_causes_no_request_at_all(self, world: World) -> None:
        world.apply_pool(groups=scaled(**EXTERNAL))
        await world.settle()
        scale_by_hand(world, 4)
        await world.settle()
        world.kube.calls.clear()
        for _ in range(3):
            await world.reconcile()
        assert world.kube.calls == []

    async def test_a_suspended_pool_has_no_engine_and_begins_with_one(self, world: World) -> None:
        world.apply_pool(groups=scaled(**EXTERNAL))
        await world.settle()
        scale_by_hand(world, 4)
        world.edit_pool(lambda pool: pool["spec"].update(suspend=True))
        await world.settle()
        assert count(world) == 0
        world.edit_pool(lambda pool: pool["spec"].update(suspend=False))
        await world.settle()
        assert count(world) == 1
