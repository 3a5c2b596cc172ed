"""Groups that serve a chat model and an embedding model, and what engines cost."""

from typing import Any

import pytest

from crd_objects import group_object, instance_object, mixed_group_object
from operator_world import KEY, World, instance_condition
from sagepool_crds import names
from sagepool_crds.instance import InferenceInstance
from sagepool_engines.probe import ProbeResult
from sagepool_kube.api import INSTANCES


@pytest.fixture
async def world() -> World:
    world = World()
    world.apply_pool(groups=[mixed_group_object(replicas=2)])
    await world.settle()
    return world


def endpoints(world: World) -> list[list[tuple[str, str, list[str]]]]:
    """Role, address and models of each endpoint of each instance."""
    return [
        [(e["role"], e["url"], e["models"]) for e in one["spec"]["endpoints"]]
        for one in world.instances()
    ]


class TestMixedGroup:
    async def test_has_an_instance_a_pod_with_two_endpoints_at_one_address(
        self, world: World
    ) -> None:
        urls = [f"http://{p['status']['podIP']}:8000" for p in world.pods("mixed")]
        assert endpoints(world) == [
            [("llm", url, ["small"]), ("embedding", url, ["bge"])] for url in urls
        ]
        assert [one["status"]["roles"] for one in world.instances()] == ["llm, embedding"] * 2

    async def test_both_models_are_in_the_status(self, world: World) -> None:
        assert [(m.name, m.role, m.ready, m.desired, m.source) for m in world.status.models] == [
            ("small", "llm", 2, 2, "local"),
            ("bge", "embedding", 2, 2, "local"),
        ]
        assert world.status.ready == "2/2"
        assert world.condition(names.READY) == ("True", "AllReady")

    async def test_both_endpoints_are_probed(self, world: World) -> None:
        targets = world.probes.targets[KEY]
        assert [[e.role for e in t.endpoints] for t in targets] == [["llm", "embedding"]] * 2

    async def test_settled_causes_no_request(self, world: World) -> None:
        world.kube.calls.clear()
        await world.reconcile()
        assert world.kube.calls == []

    async def test_model_that_comes_between_others_is_written_once(self, world: World) -> None:
        last = group_object(name="last", model={"name": "large"})
        world.apply_pool(groups=[group_object(name="mixed", model={"name": "small"}), last])
        await world.settle()
        world.apply_pool(groups=[mixed_group_object(), last])
        await world.settle()
        assert world.status.model_names == "small, bge, large"
        world.kube.calls.clear()
        await world.reconcile()
        assert world.kube.calls == []

    @pytest.mark.parametrize(
        ("fields", "after"),
        [
            ({"model": {"name": "large"}}, ["large", "bge"]),
            ({"embeddingModel": {"name": "e5"}}, ["small", "e5"]),
            ({"model": {"name": "large"}, "embeddingModel": {"name": "e5"}}, ["large", "e5"]),
        ],
        ids=["chat", "embeddings", "both"],
    )
    async def test_change_of_a_model_leaves_old_pods_what_they_serve(
        self, world: World, fields: dict[str, Any], after: list[str]
    ) -> None:
        before = endpoints(world)
        world.edit_group("mixed", **fields)
        await world.reconcile()
        assert endpoints(world) == before
        await world.settle()
        assert [[e[2] for e in one] for one in endpoints(world)] == [[[m] for m in after]] * 2
        assert world.status.model_names == ", ".join(after)

    async def test_aliases_of_either_model_roll_nothing(self, world: World) -> None:
        before = [p["metadata"]["name"] for p in world.pods("mixed")]
        world.edit_group(
            "mixed",
            model={"name": "small", "aliases": ["x"]},
            embeddingModel={"name": "bge", "aliases": ["y"]},
        )
        await world.settle()
        assert [p["metadata"]["name"] for p in world.pods("mixed")] == before

    async def test_that_loses_a_model_leaves_old_pods_both(self, world: World) -> None:
        before = endpoints(world)
        world.apply_pool(groups=[group_object(name="mixed", model={"name": "small"})])
        await world.reconcile()
        assert endpoints(world) == before
        await world.settle()
        assert [[e[0] for e in one] for one in endpoints(world)] == [["llm"], ["llm"]]

    async def test_that_gains_a_model_does_not_promise_it_of_old_pods(self) -> None:
        world = World()
        world.apply_pool(groups=[group_object(name="mixed", model={"name": "small"})])
        await world.settle()
        before = endpoints(world)
        world.apply_pool(groups=[mixed_group_object(replicas=2)])
        await world.reconcile()
        assert endpoints(world) == before

    async def test_that_comes_back_for_embeddings_alone_keeps_them_of_old_pods(
        self, world: World
    ) -> None:
        world.apply_pool(
            groups=[group_object(name="mixed", role="embedding", model={"name": "bge"})]
        )
        await world.reconcile()
        assert [[(e[0], e[2]) for e in one] for one in endpoints(world)] == [
            [("embedding", ["bge"])]
        ] * 2
        await world.settle()
        assert world.condition(names.READY) == ("True", "AllReady")

    async def test_that_serves_one_model_only_is_not_ready(self, world: World) -> None:
        name = world.instances()[0]["metadata"]["name"]
        world.probes.results[name] = ProbeResult("ModelNotServed", "it serves small, not bge")
        await world.settle()
        assert [(m.name, m.ready) for m in world.status.models] == [("small", 1), ("bge", 1)]
        assert world.condition(names.READY) == ("False", "ModelNotServed")

    @pytest.mark.parametrize(
        ("role", "model", "is_taken"),
        [
            ("llm", "bge", True),
            ("llm", "ada", True),
            ("embedding", "small", True),
            ("embedding", "ada", False),
            ("llm", "mini", False),
        ],
    )
    async def test_names_belong_to_the_role_in_which_they_are_served(
        self, world: World, role: str, model: str, *, is_taken: bool
    ) -> None:
        endpoint = {"role": role, "url": "http://10.9.9.9:80", "models": [model]}
        world.kube.put(INSTANCES, instance_object(endpoints=[endpoint]))
        await world.settle()
        instance = world.kube.read(INSTANCES, "default", "elsewhere")
        assert (instance_condition(instance)["reason"] == "ModelNameTaken") == is_taken


class TestPrice:
    async def price(self, gpu: dict[str, Any] | None) -> float | None:
        world = World()
        world.apply_pool(groups=[group_object(replicas=1, gpu=gpu)])
        await world.settle()
        (instance,) = world.instances()
        assert ("pricePerHour" in instance["spec"]) == bool(gpu and "pricePerHour" in gpu)
        return InferenceInstance.from_object(instance).spec.price_per_hour

    @pytest.mark.parametrize(
        ("gpu", "expected"),
        [
            (None, None),
            ({"count": 2}, None),
            ({"count": 2, "pricePerHour": 1.25}, 2.5),
            ({"count": 3, "pricePerHour": 0.1}, 0.3),
            ({"pricePerHour": 0}, 0),
        ],
    )
    async def test_of_an_instance_is_that_of_its_gpus(
        self, gpu: dict[str, Any] | None, expected: float | None
    ) -> None:
        assert await self.price(gpu) == expected

    async def test_change_reaches_instances_and_rolls_nothing(self) -> None:
        world = World()
        world.apply_pool(groups=[group_object(gpu={"pricePerHour": 1})])
        await world.settle()
        pods = [p["metadata"]["name"] for p in world.pods("chat")]
        world.edit_group("chat", gpu={"pricePerHour": 3})
        await world.settle()
        assert [i["spec"]["pricePerHour"] for i in world.instances()] == [3, 3]
        world.edit_group("chat", gpu={"count": 1})
        await world.settle()
        assert not any("pricePerHour" in i["spec"] for i in world.instances())
        assert [p["metadata"]["name"] for p in world.pods("chat")] == pods

    async def test_device_that_a_person_names_stays(self) -> None:
        world = World()
        world.apply_pool()
        await world.settle()
        assert not any("device" in i["spec"] for i in world.instances())
        name = world.instances("chat")[0]["metadata"]["name"]
        world.kube.edit(INSTANCES, "default", name, lambda i: i["spec"].update(device="gpu-0"))
        await world.settle()
        assert world.kube.read(INSTANCES, "default", name)["spec"]["device"] == "gpu-0"
