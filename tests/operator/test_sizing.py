"""Groups that say how much memory their GPUs have: what is asked of the hub, and what is told."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from crd_objects import group_object, pool_object
from model_configs import QWEN_7B
from operator_waiting import until
from operator_world import KEY, FakeHub, World
from sagepool_crds import names
from sagepool_crds.meta import PoolKey
from sagepool_crds.pool import Group, InferencePool
from sagepool_kube.api import EVENTS
from sagepool_operator.fit import Estimate, ModelConfig
from sagepool_operator.hub import HubReader, read_config
from sagepool_operator.sizing import GroupFit, HubModel, models_to_size, size_group

HUB = "https://hub.example"
MODEL = HubModel("hf://Qwen/Qwen2.5-7B-Instruct", "v1")
SMALL = HubModel("hf://BAAI/bge-small-en-v1.5")
SMALL_CONFIG = ModelConfig.model_validate(
    {
        "architectures": ["BertModel"],
        "hidden_size": 384,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "torch_dtype": "float32",
    }
)
KNOWN = {MODEL: ModelConfig.model_validate(QWEN_7B)}
GIB = 2**30


def group(*args: str, **gpu: Any) -> dict[str, Any]:
    return group_object(
        engine={"type": "vllm", "args": list(args)},
        model={"name": "qwen", "uri": MODEL.uri, "revision": MODEL.revision},
        gpu={"memory": "24Gi", **gpu},
        replicas=1,
    )


def sized(*args: str, **gpu: Any) -> Estimate | str:
    (found,) = size_group(Group.model_validate(group(*args, **gpu)), KNOWN)
    return found.estimate


@pytest.mark.parametrize(
    ("args", "length"),
    [
        ([], 32768),
        (["--max-model-len=8192"], 8192),
        (["--max-model-len", "8192"], 8192),
        (["--max_model_len=8k"], 8000),
        (["--max-model-len=8K"], 8192),
        (["--seed=1", "--max-model-len=1.5K"], 1536),
    ],
)
def test_length_is_the_one_that_vllm_would_read(args: list[str], length: int) -> None:
    found = sized(*args)
    assert isinstance(found, Estimate)
    assert found.length == length


@pytest.mark.parametrize(
    "argument",
    [
        "--quantization=fp8",
        "--kv_cache_dtype=fp8",
        "-tp",
        "--cpu-offload-gb=4",
        "--max-model-len=auto",
        "--max-model-len=0",
        "--max-model-len",
    ],
)
def test_argument_whose_effect_is_not_reckoned_is_named(argument: str) -> None:
    found = sized(argument)
    assert isinstance(found, str)
    assert argument.partition("=")[0].replace("_", "-") in found


def test_memory_and_share_and_count_are_those_of_the_group() -> None:
    found = sized(count=2, memory="80G", memoryFraction=0.5)
    assert isinstance(found, Estimate)
    assert found.budget_bytes == 40 * 10**9
    assert found.weights_bytes < 8 * GIB


def test_group_that_does_not_say_its_memory_is_not_sized() -> None:
    plain = group()
    del plain["gpu"]["memory"]
    assert list(size_group(Group.model_validate(plain), KNOWN)) == []
    assert list(size_group(Group.model_validate(group()), {})) == []


class TestTwoModelsOnOneGpu:
    @staticmethod
    def sized(*embedding_args: str, **gpu: Any) -> list[GroupFit]:
        mixed = {
            **group("--max-model-len=8192", **gpu),
            "role": "llm_embedding",
            "embeddingModel": {"name": "bge", "uri": SMALL.uri},
        }
        mixed["engine"]["embeddingArgs"] = list(embedding_args)
        return list(size_group(Group.model_validate(mixed), {**KNOWN, SMALL: SMALL_CONFIG}))

    def test_each_is_judged_against_its_own_share(self) -> None:
        chat, embedding = self.sized(memory="100G")
        assert (chat.model, embedding.model) == (MODEL.uri, SMALL.uri)
        assert isinstance(chat.estimate, Estimate)
        assert isinstance(embedding.estimate, Estimate)
        assert chat.estimate.budget_bytes == 70 * 10**9
        assert embedding.estimate.budget_bytes == 20 * 10**9

    def test_shares_are_those_of_the_group(self) -> None:
        chat, embedding = self.sized(memory="100G", memoryFraction=0.5, embeddingMemoryFraction=0.1)
        assert isinstance(chat.estimate, Estimate)
        assert isinstance(embedding.estimate, Estimate)
        assert chat.estimate.budget_bytes == 40 * 10**9
        assert embedding.estimate.budget_bytes == 10 * 10**9

    def test_what_is_told_names_the_arguments_of_the_process(self) -> None:
        chat, embedding = self.sized("--quantization=fp8")
        assert isinstance(chat.estimate, Estimate)
        assert (
            embedding.estimate
            == "engine.embeddingArgs has --quantization, whose effect is not reckoned"
        )
        assert (chat.args_field, embedding.args_field) == ("engine.args", "engine.embeddingArgs")

    def test_what_is_told_names_the_share_of_the_process(self) -> None:
        chat, embedding = self.sized(memory="100G")
        assert chat.share == "raise gpu.memoryFraction or lower gpu.embeddingMemoryFraction"
        assert embedding.share == "raise gpu.embeddingMemoryFraction"
        (alone,) = size_group(Group.model_validate(group()), KNOWN)
        assert alone.share == ""

    def test_both_are_asked_for(self) -> None:
        mixed = group_object(
            **{
                **group(),
                "role": "llm_embedding",
                "embeddingModel": {"name": "bge", "uri": SMALL.uri},
            }
        )
        pool = InferencePool.from_object(pool_object(groups=[mixed]))
        assert models_to_size(pool) == (MODEL, SMALL)


class TestPool:
    @pytest.fixture
    def world(self) -> World:
        world = World()
        world.apply_pool(groups=[group()])
        return world

    def told(self, world: World) -> list[str]:
        reasons = ("ModelsFit", "ModelTooLarge", "FitUnknown")
        return [e["reason"] for e in world.kube.all(EVENTS) if e["reason"] in reasons]

    async def test_asks_for_the_model_and_says_nothing_before_it_is_known(
        self, world: World
    ) -> None:
        await world.settle()
        assert world.hub.asked == {KEY: (MODEL,)}
        assert world.condition(names.MODELS_FIT) == ("", "")

    async def test_that_fits_says_so_without_an_event(self, world: World) -> None:
        world.hub.configs = dict(KNOWN)
        await world.settle()
        assert world.condition(names.MODELS_FIT) == ("True", "ModelsFit")
        assert self.told(world) == []

    async def test_that_does_not_fit_is_warned_and_tried_all_the_same(self, world: World) -> None:
        world.hub.configs = dict(KNOWN)
        world.edit_group("chat", gpu={"count": 1, "memory": "16Gi"})
        await world.settle()
        assert world.condition(names.MODELS_FIT) == ("False", "ModelTooLarge")
        assert (
            "group chat: hf://Qwen/Qwen2.5-7B-Instruct: each GPU needs at least"
            in world.message(names.MODELS_FIT)
        )
        assert world.deployment("rag-chat")["spec"]["replicas"] == 1
        world.edit_group("chat", gpu={"count": 2, "memory": "16Gi"})
        await world.settle()
        assert self.told(world) == ["ModelTooLarge", "ModelsFit"]

    async def test_whose_model_cannot_be_read_says_why(self, world: World) -> None:
        world.hub.configs = {MODEL: "the hub asks for a token"}
        await world.settle()
        assert world.condition(names.MODELS_FIT) == ("Unknown", "FitUnknown")
        assert "the hub asks for a token" in world.message(names.MODELS_FIT)
        assert self.told(world) == []

    async def test_whose_model_lies_on_a_claim_says_that_nothing_is_known(
        self, world: World
    ) -> None:
        world.edit_group("chat", model={"name": "qwen", "uri": "pvc://weights/qwen"})
        await world.settle()
        assert world.hub.asked[KEY] == ()
        assert world.condition(names.MODELS_FIT) == ("Unknown", "FitUnknown")
        assert "on the hub only" in world.message(names.MODELS_FIT)

    async def test_keeps_its_word_while_a_new_operator_has_not_read_the_model_yet(
        self, world: World
    ) -> None:
        world.hub.configs = {MODEL: "the hub asks for a token"}
        await world.settle()
        writes = world.write_count()
        world.hub = FakeHub()
        await world.reconcile()
        assert world.condition(names.MODELS_FIT) == ("Unknown", "FitUnknown")
        assert world.write_count() == writes

    async def test_that_says_its_memory_no_more_has_no_condition(self, world: World) -> None:
        world.hub.configs = dict(KNOWN)
        await world.settle()
        world.edit_group("chat", gpu={"count": 1})
        await world.settle()
        assert world.condition(names.MODELS_FIT) == ("", "")
        assert world.hub.asked == {KEY: ()}


class TestHub:
    class Hub:
        def __init__(self) -> None:
            self.answer: httpx.Response | Exception = httpx.Response(200, json=QWEN_7B)
            self.urls: list[str] = []

        def __call__(self, request: httpx.Request) -> httpx.Response:
            self.urls.append(str(request.url))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    @pytest.fixture
    def hub(self) -> Hub:
        return self.Hub()

    @pytest.fixture
    async def client(self, hub: Hub) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(hub)) as client:
            yield client

    @pytest.mark.parametrize(
        ("revision", "part"), [(None, "main"), ("v1", "v1"), ("refs/pr/3", "refs%2Fpr%2F3")]
    )
    async def test_config_is_read_at_its_revision(
        self, client: httpx.AsyncClient, hub: Hub, revision: str | None, part: str
    ) -> None:
        found = await read_config(client, HUB, HubModel(MODEL.uri, revision))
        assert found == KNOWN[MODEL]
        assert hub.urls == [f"{HUB}/Qwen/Qwen2.5-7B-Instruct/resolve/{part}/config.json"]

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (httpx.Response(401), "asks for a token"),
            (httpx.Response(403), "asks for a token"),
            (httpx.Response(404), "no config.json of Qwen/Qwen2.5-7B-Instruct at v1: check"),
            (httpx.Response(500), "the hub answers 500"),
            (httpx.ConnectError("refused"), f"{HUB} cannot be reached (refused)"),
            (httpx.ReadTimeout(""), f"{HUB} cannot be reached (ReadTimeout)"),
            (httpx.Response(200, text="<html>"), "has not the form"),
            (httpx.Response(200, json={"architectures": ["Clip"]}), "has not the form"),
            (httpx.Response(200, json={**QWEN_7B, "hidden_size": -1}), "has not the form"),
            (httpx.Response(200, content=b" " * (2**20 + 1)), "larger than a megabyte"),
        ],
    )
    async def test_config_that_cannot_be_read_says_why(
        self,
        client: httpx.AsyncClient,
        hub: Hub,
        answer: httpx.Response | Exception,
        words: str,
    ) -> None:
        hub.answer = answer
        found = await read_config(client, HUB, MODEL)
        assert isinstance(found, str)
        assert words in found

    async def test_without_a_hub_nobody_is_asked(self, client: httpx.AsyncClient, hub: Hub) -> None:
        found = await read_config(client, "", MODEL)
        assert "SAGEPOOL_OPERATOR_HUB is none" in str(found)
        assert hub.urls == []

    async def test_model_is_read_once_and_every_pool_that_asks_is_woken(
        self, client: httpx.AsyncClient, hub: Hub
    ) -> None:
        wakes: list[PoolKey] = []
        other = PoolKey("default", "other")
        reader = HubReader(client, HUB, wakes.append)
        reader.track(KEY, [MODEL])
        await until(lambda: wakes == [KEY])
        reader.track(KEY, [MODEL])
        reader.track(other, [MODEL])
        await until(lambda: wakes == [KEY, other])
        assert reader.configs == KNOWN
        assert len(hub.urls) == 1
        await reader.close()

    async def test_model_that_could_not_be_read_is_asked_for_again(
        self, client: httpx.AsyncClient, hub: Hub
    ) -> None:
        wakes: list[PoolKey] = []
        pauses: list[float] = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                hub.answer = httpx.Response(200, json=QWEN_7B)
            await asyncio.sleep(0)

        hub.answer = httpx.Response(500)
        reader = HubReader(client, HUB, wakes.append, sleep=sleep)
        reader.track(KEY, [MODEL])
        await until(lambda: reader.configs == KNOWN)
        assert len(hub.urls) == 3
        assert wakes == [KEY, KEY]
        assert min(pauses) >= 60
        await reader.close()
