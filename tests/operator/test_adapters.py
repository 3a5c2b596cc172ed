"""Adapters of a pool: they come and go without new pods, and status tells what keeps them away."""

from typing import Any

import pytest

from crd_objects import group_object
from operator_world import World, instance_condition, run_pod
from sagepool_crds import names
from sagepool_crds.pool import Group
from sagepool_kube.api import EVENTS
from sagepool_operator.config import Images
from sagepool_operator.engines.catalog import build_engine
from sagepool_operator.reports import AdapterReport

BOT = {"name": "bot", "uri": "hf://acme/bot"}
CODER = {"name": "coder", "uri": "/models/adapters/coder"}


def spec(*adapters: dict[str, str], **fields: Any) -> dict[str, Any]:
    chat = group_object(**{"replicas": 2, "adapters": list(adapters), **fields})
    return {"groups": [chat], "router": {"replicas": 1}}


@pytest.fixture
async def world() -> World:
    """A settled pool with room and no adapter."""
    world = World()
    world.apply_pool(**spec(lora={}))
    await world.settle()
    return world


async def become(world: World, *adapters: dict[str, str], **fields: Any) -> None:
    world.apply_pool(**spec(*adapters, **{"lora": {}, **fields}))
    await world.settle()


def pod_names(world: World) -> set[str]:
    return {pod["metadata"]["name"] for pod in world.pods("chat")}


def phases(world: World) -> list[dict[str, str]]:
    return [
        {found["name"]: found["phase"] for found in one["status"].get("adapters", ())}
        for one in world.instances("chat")
    ]


def told(world: World) -> list[tuple[str, str]]:
    reasons = {"AdaptersLoaded", "AdaptersLoading", "AdapterLoadFailed"}
    found = [(e["type"], e["reason"]) for e in world.kube.all(EVENTS)]
    return [event for event in found if event[1] in reasons]


class TestRoom:
    async def test_a_group_without_adapters_keeps_none(self) -> None:
        world = World()
        world.apply_pool(**spec())
        await world.settle()
        pod = world.pods("chat")[0]
        assert names.LORA_ANNOTATION not in pod["metadata"]["annotations"]
        assert "--enable-lora" not in pod["spec"]["containers"][0]["args"]
        assert world.adapters.targets == ()
        assert world.condition(names.ADAPTERS_LOADED) == ("", "")

    async def test_where_there_is_room_adapters_come_and_go_without_new_pods(
        self, world: World
    ) -> None:
        before = pod_names(world)
        for adapters in ([BOT], [BOT, CODER], [CODER], []):
            await become(world, *adapters)
            assert pod_names(world) == before
            assert phases(world) == [dict.fromkeys((a["name"] for a in adapters), "Loaded")] * 2

    async def test_the_first_adapter_makes_room_for_all(self) -> None:
        world = World()
        world.apply_pool(**spec())
        await world.settle()
        without = pod_names(world)
        await become(world, BOT, lora=None)
        first = pod_names(world)
        assert first.isdisjoint(without)
        await become(world, BOT, CODER, lora=None)
        await become(world, CODER)  # the room that it has, now in words
        assert pod_names(world) == first

    async def test_more_room_is_made_with_new_pods(self, world: World) -> None:
        before = pod_names(world)
        await become(world, lora={"maxRank": 64})
        assert pod_names(world).isdisjoint(before)

    @pytest.mark.parametrize(
        ("engine", "flags"),
        [
            (
                "vllm",
                {"--enable-lora", "--max-loras=2", "--max-lora-rank=64", "--max-cpu-loras=16"},
            ),
            ("simulator", {"--enable-lora", "--max-lora-rank=64"}),
        ],
    )
    def test_engines_are_told_how_much(self, engine: str, flags: set[str]) -> None:
        group = Group.model_validate(
            group_object(
                engine={"type": engine},
                model={"name": "m", "uri": "hf://o/m"},
                lora={"maxLoras": 2, "maxRank": 64},
            )
        )
        built = build_engine(group, Images(own="image"))
        assert flags == {arg for arg in built.args if "lora" in arg}
        updating = {"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "1"}
        assert (updating in built.env) == (engine == "vllm")

    def test_a_users_own_flag_wins(self) -> None:
        group = Group.model_validate(
            group_object(
                engine={"type": "vllm", "args": ["--max-loras=8"]},
                model={"name": "m", "uri": "hf://o/m"},
                adapters=[BOT],
            )
        )
        args = build_engine(group, Images(own="image")).args
        assert [arg for arg in args if arg.startswith("--max-loras")] == ["--max-loras=8"]

    def test_adapters_come_from_the_hub_also_where_the_model_is_cached(self) -> None:
        model = {"name": "m", "uri": "hf://o/m", "tokenSecret": {"name": "hub", "key": "token"}}
        groups = [
            Group.model_validate(group_object(engine={"type": "vllm"}, model=model, **fields))
            for fields in ({}, {"adapters": [BOT]})
        ]
        cached = [build_engine(group, Images(own="image"), "/models/m") for group in groups]
        tokens = [[v["name"] for v in one.env if v["name"] == "HF_TOKEN"] for one in cached]
        assert tokens == [[], ["HF_TOKEN"]]


class TestEngines:
    async def test_are_told_where_the_weights_are(self, world: World) -> None:
        await become(world, BOT, CODER)
        urls = {one["spec"]["endpoints"][0]["url"] for one in world.instances("chat")}
        assert {target.url for target in world.adapters.targets} == urls
        wanted = (("bot", "acme/bot"), ("coder", "/models/adapters/coder"))
        assert {target.wanted for target in world.adapters.targets} == {wanted}

    async def test_are_seen_to_only_while_they_answer(self, world: World) -> None:
        await become(world, BOT)
        pod = world.pods("chat")[0]
        name = pod["metadata"]["name"]
        run_pod(world.kube, pod, restarts=1)
        await world.reconcile()
        instance = next(i for i in world.instances() if i["metadata"]["name"] == name)
        assert instance["status"].get("adapters", []) == []
        assert instance_condition(instance, names.ADAPTERS_LOADED) == {}
        assert len(world.adapters.targets) == 1

    async def test_load_again_after_a_restart(self, world: World) -> None:
        await become(world, BOT)
        keys = {target.key for target in world.adapters.targets}
        run_pod(world.kube, world.pods("chat")[0], restarts=1)
        await world.settle()
        assert len({target.key for target in world.adapters.targets} - keys) == 1
        assert phases(world) == [{"bot": "Loaded"}] * 2

    async def test_are_ready_without_their_adapters(self, world: World) -> None:
        world.adapters.errors["bot"] = "the engine says: out of memory"
        await become(world, BOT)
        assert world.condition(names.READY) == ("True", "AllReady")
        assert [instance_condition(i)["status"] for i in world.instances("chat")] == ["True"] * 2

    async def test_of_another_operator_keep_what_they_have_until_they_are_asked(
        self, world: World
    ) -> None:
        await become(world, BOT)
        world.adapters.said = {}
        world.apply_pool(**spec(BOT, CODER, lora={}))
        await world.reconcile()
        assert phases(world) == [{"bot": "Loaded", "coder": "Loading"}] * 2

    async def test_that_cannot_unload_one_say_so(self, world: World) -> None:
        (one, _) = world.adapters.targets
        report = AdapterReport(errors=(("gone", "the engine says: busy"),))
        world.adapters.said = {one.key: report}
        await world.reconcile()
        (told,) = [
            condition["message"]
            for instance in world.instances("chat")
            if (condition := instance_condition(instance, names.ADAPTERS_LOADED))
        ]
        assert told.startswith("gone cannot be unloaded: the engine says: busy: ")


class TestStatus:
    async def test_tells_what_is_loaded_where(self, world: World) -> None:
        await become(world, BOT)
        assert phases(world) == [{"bot": "Loaded"}] * 2
        for instance in world.instances("chat"):
            condition = instance_condition(instance, names.ADAPTERS_LOADED)
            assert (condition["status"], condition["reason"]) == ("True", "AdaptersLoaded")
        assert world.condition(names.ADAPTERS_LOADED) == ("True", "AdaptersLoaded")
        assert world.message(names.ADAPTERS_LOADED) == "2 of 2 engines have theirs"
        found = {m.name: (m.role, m.ready, m.desired) for m in world.status.models}
        assert found == {"qwen2.5-7b": ("llm", 2, 2), "bot": ("llm", 2, 2)}

    async def test_one_on_its_way_is_no_failure(self, world: World) -> None:
        world.adapters.slow.add("bot")
        await become(world, BOT)
        assert phases(world) == [{"bot": "Loading"}] * 2
        assert world.condition(names.ADAPTERS_LOADED) == ("Unknown", "AdaptersLoading")
        assert world.message(names.ADAPTERS_LOADED) == "loading bot (2 of 2 engines)"
        assert {m.name: m.ready for m in world.status.models}["bot"] == 0
        assert told(world) == []

    @pytest.mark.parametrize(
        ("words", "advice"),
        [
            ("the engine says: Loading lora bot failed: No adapter found for x", "correct its uri"),
            (
                "the engine says: LoRA rank 64 is greater than max_lora_rank 16.",
                "max_lora_rank 16: raise lora.maxRank of its group",
            ),
            ("the engine answers 404 to /v1/load_lora_adapter", "check engine.image"),
            ("the engine does not answer in time", "it is tried again"),
        ],
    )
    async def test_tells_what_failed_in_the_engines_words_and_the_next_step(
        self, world: World, words: str, advice: str
    ) -> None:
        world.adapters.errors["bot"] = words
        await become(world, BOT, CODER)
        assert phases(world) == [{"bot": "Failed", "coder": "Loaded"}] * 2
        assert world.condition(names.ADAPTERS_LOADED) == ("False", "AdapterLoadFailed")
        message = world.message(names.ADAPTERS_LOADED)
        assert message.startswith(f"bot: {words.rstrip('.')}: ")
        assert advice in message
        assert message.endswith(" (2 of 2 engines)")
        instance = world.instances("chat")[0]
        condition = instance_condition(instance, names.ADAPTERS_LOADED)
        assert (condition["status"], condition["reason"]) == ("False", "AdapterLoadFailed")
        assert advice in condition["message"]

    async def test_a_failure_and_its_end_are_events(self, world: World) -> None:
        world.adapters.errors["bot"] = "the engine says: out of memory"
        await become(world, BOT)
        assert told(world) == [("Warning", "AdapterLoadFailed")]
        world.adapters.errors.clear()
        await world.settle()
        assert sorted(told(world)) == [
            ("Normal", "AdaptersLoaded"),
            ("Warning", "AdapterLoadFailed"),
        ]

    async def test_what_failed_has_failed_until_it_is_tried_again(self, world: World) -> None:
        world.adapters.errors["bot"] = "the engine says: out of memory"
        await become(world, BOT)
        before = world.message(names.ADAPTERS_LOADED)
        for nothing in ({}, {target.key: AdapterReport() for target in world.adapters.targets}):
            world.adapters.said = nothing  # another operator; it has asked and not yet tried
            await world.reconcile()
            assert world.message(names.ADAPTERS_LOADED) == before
        assert told(world) == [("Warning", "AdapterLoadFailed")]

    async def test_another_uri_is_another_attempt(self, world: World) -> None:
        world.adapters.errors["bot"] = "the engine says: out of memory"
        await become(world, BOT)
        world.adapters.said = {}
        world.apply_pool(**spec({**BOT, "uri": "hf://acme/other"}, lora={}))
        await world.reconcile()
        assert phases(world) == [{"bot": "Loading"}] * 2

    async def test_former_weights_stay_in_use_where_others_do_not_load(self, world: World) -> None:
        report = AdapterReport(frozenset({"bot"}), (("bot", "the engine says: no"),))
        await become(world, BOT)
        world.adapters.said = {target.key: report for target in world.adapters.targets}
        await world.reconcile()
        assert phases(world) == [{"bot": "Loaded"}] * 2
        assert world.condition(names.ADAPTERS_LOADED) == ("False", "AdapterLoadFailed")
        said = world.message(names.ADAPTERS_LOADED)
        assert said.startswith("bot: former weights are in use: the engine says: no: ")

    async def test_without_an_engine_nothing_can_be_said(self, world: World) -> None:
        world.apply_pool(**spec(BOT, lora={}, replicas=0) | {"suspend": True})
        await world.settle()
        assert world.condition(names.ADAPTERS_LOADED) == ("Unknown", "NoEngine")

    async def test_a_settled_pool_writes_nothing(self, world: World) -> None:
        world.adapters.errors["coder"] = "the engine says: out of memory"
        await become(world, BOT, CODER)
        before = world.write_count()
        await world.reconcile()
        assert world.write_count() == before

    async def test_the_last_adapter_takes_its_condition_along(self, world: World) -> None:
        await become(world, BOT)
        await become(world)
        assert world.condition(names.ADAPTERS_LOADED) == ("", "")
        for instance in world.instances("chat"):
            assert instance_condition(instance, names.ADAPTERS_LOADED) == {}
