"""Pods of a group that serves a chat and an embedding model with vLLM, and their instances."""

import inspect
from collections.abc import Sequence
from typing import Any

import pytest

from crd_objects import mixed_group_object, pair_group_object, pool_object
from operator_world import IMAGES, KEY, World
from sagepool_crds import names
from sagepool_crds.pool import Group, InferencePool
from sagepool_engines.probe import ProbeResult
from sagepool_operator.builders.engines import build_deployment
from sagepool_operator.builders.podspec import build_template
from sagepool_operator.engines.catalog import build_engine
from sagepool_operator.engines.container import EngineContainer
from sagepool_operator.engines.processes import processes_of
from sagepool_operator.programs import pair, pair_health

LORA = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"


def group(**fields: Any) -> Group:
    return Group.model_validate(pair_group_object(**fields))


def engine(*folders: str, **fields: Any) -> EngineContainer:
    return build_engine(group(**fields), IMAGES, *folders)


def template(**fields: Any) -> dict[str, Any]:
    pool = InferencePool.from_object(pool_object())
    return build_template(pool, group(**fields), engine(**fields), IMAGES)


def container(**fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = template(**fields)["spec"]["containers"][0]
    return found


def commands(*folders: str, **fields: Any) -> tuple[Sequence[str], Sequence[str]]:
    """The command lines of chat and embeddings."""
    _, _, _, *words = engine(*folders, **fields).args
    cut = words.index(pair.SEPARATOR)
    return words[:cut], words[cut + 1 :]


def shares(**gpu: Any) -> list[str]:
    flag = "--gpu-memory-utilization="
    found = commands(gpu={"count": 1, **gpu})
    return [w.removeprefix(flag) for words in found for w in words if w.startswith(flag)]


class TestProcesses:
    def test_of_other_groups_are_one(self) -> None:
        for fields in (
            {"role": "llm", "embeddingModel": None},
            {"engine": {"type": "simulator"}},
        ):
            plain = group(**fields)
            assert processes_of(plain) == (plain,)

    def test_each_serves_one_model_on_a_port_of_its_own(self) -> None:
        chat, embedding = processes_of(group(engine={"type": "vllm", "port": 8100}))
        assert (chat.served, chat.engine.port) == ((("llm", chat.model),), 8100)
        assert (embedding.served, embedding.engine.port) == (
            (("embedding", embedding.model),),
            8101,
        )
        assert (chat.model.name, embedding.model.name) == ("small", "bge")


class TestCommandLines:
    def test_serve_each_model_under_its_name(self) -> None:
        chat, embedding = commands()
        assert list(chat[:3]) == ["vllm", "serve", "Qwen/Qwen2.5-1.5B-Instruct"]
        assert {"--served-model-name=small", "--port=8000"} <= set(chat)
        assert not any(word.startswith("--runner") for word in chat)
        assert list(embedding[:3]) == ["vllm", "serve", "BAAI/bge-small-en-v1.5"]
        assert {"--served-model-name=bge", "--port=8001", "--runner=pooling"} <= set(embedding)

    @pytest.mark.parametrize(
        ("gpu", "expected"),
        [
            ({}, ["0.7", "0.2"]),
            ({"memoryFraction": 0.5}, ["0.3", "0.2"]),
            ({"embeddingMemoryFraction": 0.3}, ["0.6", "0.3"]),
            ({"memoryFraction": 0.95, "embeddingMemoryFraction": 0.05}, ["0.9", "0.05"]),
        ],
    )
    def test_share_the_memory_out(self, gpu: dict[str, Any], expected: list[str]) -> None:
        assert shares(**gpu) == expected

    def test_say_nothing_of_memory_where_there_is_no_gpu(self) -> None:
        assert not any("memory" in word for words in commands(gpu=None) for word in words)

    def test_split_both_models_over_the_gpus(self) -> None:
        for words in commands(gpu={"count": 2}):
            assert "--tensor-parallel-size=2" in words

    def test_have_arguments_of_their_own_that_win(self) -> None:
        chat, embedding = commands(
            engine={
                "type": "vllm",
                "args": ["--max-model-len=4096"],
                "embeddingArgs": ["--max-model-len=512", "--runner=auto"],
            }
        )
        assert "--max-model-len=4096" in chat
        assert "--max-model-len=512" not in chat
        assert "--max-model-len=512" in embedding
        assert [word for word in embedding if word.startswith("--runner")] == ["--runner=auto"]

    def test_leave_adapters_to_chat(self) -> None:
        fields = {"adapters": [{"name": "bot", "uri": "hf://o/bot"}]}
        chat, embedding = commands(**fields)
        assert "--enable-lora" in chat
        assert not any("lora" in word for word in embedding)
        assert {"name": LORA, "value": "1"} in engine(**fields).env

    def test_load_each_model_from_its_folder_or_at_its_revision(self) -> None:
        models = {
            name: {"name": name, "uri": f"hf://o/{name}", "revision": f"{name}-1"}
            for name in ("model", "embeddingModel")
        }
        chat, embedding = commands("", "/models/bge", **models)
        assert chat[2] == "o/model"
        assert "--revision=model-1" in chat
        assert embedding[2] == "/models/bge"
        assert not any(word.startswith("--revision") for word in embedding)

    @pytest.mark.parametrize("holder", ["model", "embeddingModel"])
    def test_ask_the_hub_with_the_token_of_either_model(self, holder: str) -> None:
        secret = {"name": "hf", "key": "token"}
        fields = pair_group_object()
        model = {**fields[holder], "tokenSecret": secret}
        tokens = [v for v in engine(**{holder: model}).env if v["name"] == "HF_TOKEN"]
        assert tokens == [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}}]
        cached = engine("/models/a", "/models/b", **{holder: model})
        assert not any(v["name"] == "HF_TOKEN" for v in cached.env)


class TestPod:
    def test_has_one_container_that_runs_both(self) -> None:
        spec = template()["spec"]
        assert [one["name"] for one in spec["containers"]] == ["engine"]
        built = container()
        assert built["command"][:1] == ["python3"]
        assert built["command"][-2:] == ["-c", inspect.getsource(pair)]
        assert built["args"][0] == "http://127.0.0.1:8000/health"
        assert built["resources"]["limits"] == {"nvidia.com/gpu": "1"}

    def test_names_the_port_of_each(self) -> None:
        assert {p["name"]: p["containerPort"] for p in container()["ports"]} == {
            "http": 8000,
            "embedding": 8001,
        }

    @pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
    def test_is_well_when_both_are(self, probe: str) -> None:
        found = container(engine={"type": "vllm", "port": 9000})[probe]
        assert found["exec"]["command"][-3:] == [inspect.getsource(pair_health), "9000", "9001"]
        assert found["timeoutSeconds"] > 2 * pair_health.LIMIT_S

    def test_may_load_both_one_after_the_other(self) -> None:
        one = build_engine(group(role="llm", embeddingModel=None), IMAGES)
        probe = container()["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 2 * one.load_limit_s
        pool = InferencePool.from_object(pool_object())
        spec = build_deployment(pool, group(), template(), {}, 1)["spec"]
        assert spec["progressDeadlineSeconds"] > 2 * one.load_limit_s

    def test_kills_what_does_not_stop_before_the_kubelet_does(self) -> None:
        built = engine()
        assert 60 < float(built.args[2]) < built.stop_limit_s

    def test_says_both_models(self) -> None:
        notes = template()["metadata"]["annotations"]
        assert notes[names.MODEL_ANNOTATION] == "small"
        assert notes[names.EMBEDDING_MODEL_ANNOTATION] == "bge"
        assert notes[names.EMBEDDING_SOURCE_ANNOTATION] == "hf://BAAI/bge-small-en-v1.5"


class TestInstances:
    @pytest.fixture
    async def world(self) -> World:
        world = World()
        world.apply_pool(groups=[pair_group_object(replicas=1)])
        await world.settle()
        return world

    @staticmethod
    def addresses(world: World) -> list[dict[str, str]]:
        return [
            {e["role"]: e["url"].rpartition(":")[2] for e in one["spec"]["endpoints"]}
            for one in world.instances()
        ]

    async def test_have_an_address_for_each_role(self, world: World) -> None:
        assert self.addresses(world) == [{"llm": "8000", "embedding": "8001"}]
        (target,) = world.probes.targets[KEY]
        assert len({endpoint.url for endpoint in target.endpoints}) == 2

    async def test_keep_the_addresses_that_their_pod_was_built_with(self, world: World) -> None:
        world.apply_pool(groups=[mixed_group_object(replicas=1)])
        await world.reconcile()
        assert self.addresses(world) == [{"llm": "8000", "embedding": "8001"}]
        await world.settle()
        assert self.addresses(world) == [{"llm": "8000", "embedding": "8000"}]

    async def test_are_not_ready_while_one_process_is_not(self, world: World) -> None:
        name = world.instances()[0]["metadata"]["name"]
        world.probes.results[name] = ProbeResult("Unreachable", "http://10.0.0.1:8001 refused")
        await world.settle()
        assert [(m.name, m.ready) for m in world.status.models] == [("small", 0), ("bge", 0)]
