"""A chat and an embedding model of one group on vLLM: two processes of one instance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from crd_objects import group_object, mixed_group_object, pool_object
from e2e_waiting import wait_until
from laptop_plan import GPUS, Plan, engines, install_vllm, plan_objects
from sage_command import Sage, free_port, kill, part_of, write_pool
from sage_vllm import sage_with_vllm
from sagepool.laptop.backends import unused_backends
from sagepool.laptop.errors import WrongUse
from sagepool.laptop.gpus import Gpu
from sagepool.laptop.home import Home
from sagepool.laptop.launch import Launch
from sagepool.laptop.plan import Options, downloading_processes
from sagepool_crds.pool import InferencePool

pytestmark = pytest.mark.timeout(180)

Json = dict[str, Any]


def mixed(**fields: Any) -> Json:
    said = {
        "engine": {"type": "vllm", "args": ["--max-model-len=512"], "embeddingArgs": ["--seed=7"]},
        "model": {"name": "small", "uri": "hf://Qwen/Tiny"},
        "embeddingModel": {"name": "bge", "uri": "hf://Qwen/Tiny"},
        "replicas": 1,
    }
    return mixed_group_object(**{**said, **fields})


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    install_vllm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    home = Home(tmp_path)

    def build(*groups: Json, gpus: Sequence[Gpu] = GPUS, **backends: str) -> Launch:
        pool = pool_object(groups=list(groups))
        return plan_objects(home, pool, read_gpus=lambda: gpus, **backends)

    return build


def test_it_is_two_processes_of_one_instance(plan: Plan) -> None:
    found = engines(plan(mixed()))
    assert found.keys() == {"mixed-0", "mixed-0-embedding"}
    chat, text = found.values()
    assert (chat.unit, text.unit) == ("", "mixed-0")
    assert (chat.roles, text.roles) == (["llm"], ["embedding"])
    assert (chat.models, text.models) == (["small"], ["bge"])
    assert text.instance is None
    assert chat.instance is not None
    assert chat.instance["metadata"]["name"] == "mixed-0"
    assert [e["role"] for e in chat.instance["spec"]["endpoints"]] == ["llm", "embedding"]


def test_each_process_has_its_own_words_and_only_chat_has_the_adapters(plan: Plan) -> None:
    adapters = [{"name": "bot", "uri": "hf://acme/bot"}]
    chat, text = engines(plan(mixed(adapters=adapters))).values()
    assert {"--max-model-len=512", "--enable-lora", "bot=acme/bot"} <= set(chat.command)
    assert "--runner=pooling" not in chat.command
    assert {"--seed=7", "--runner=pooling", "--served-model-name=bge"} <= set(text.command)
    assert not {"--max-model-len=512", "--enable-lora", "bot=acme/bot"} & set(text.command)


def test_they_share_the_part_of_a_gpu_that_the_group_may_take(plan: Plan) -> None:
    gpu = {"memoryFraction": 0.8, "embeddingMemoryFraction": 0.1}
    chat, text = engines(plan(mixed(gpu=gpu))).values()
    assert "--gpu-memory-utilization=0.7" in chat.command
    assert "--gpu-memory-utilization=0.1" in text.command
    assert chat.environment["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert text.environment["CUDA_VISIBLE_DEVICES"] == "GPU-a"
    assert chat.instance is not None
    assert chat.instance["spec"]["device"] == "gpu-0"


def test_a_gpu_must_have_room_for_both(plan: Plan) -> None:
    gpus = [Gpu(0, "GPU-a", "H100", 100, 80)]
    with pytest.raises(WrongUse, match=r"group mixed needs 1 GPU with 90% of the memory free"):
        plan(mixed(gpu={"count": 1}), gpus=gpus)
    assert engines(plan(mixed(gpu={"memoryFraction": 0.8}), gpus=gpus))


def test_what_shares_their_gpu_loads_after_the_second_one(plan: Plan) -> None:
    other = group_object(
        name="other",
        engine={"type": "vllm"},
        model={"name": "qwen", "uri": "hf://Qwen/Tiny"},
        gpu={"memoryFraction": 0.3},
        replicas=1,
    )
    found = engines(plan(mixed(gpu={"memoryFraction": 0.6}), other, gpus=GPUS[:1]))
    assert found["mixed-0"].after == []
    assert found["other-0"].after == ["mixed-0-embedding"]


def test_both_models_are_looked_for_before_anything_starts() -> None:
    pool = InferencePool.from_object(
        pool_object(groups=[mixed(embeddingModel={"name": "bge", "uri": "hf://BAAI/bge"})])
    )
    options = Options("127.0.0.1", 8000, 9090, "info", {})
    assert [p.model.uri for p in downloading_processes(pool, options)] == [
        "hf://Qwen/Tiny",
        "hf://BAAI/bge",
    ]


def test_a_backend_that_is_given_for_both_roles_runs_it(plan: Plan) -> None:
    (one,) = engines(plan(mixed(), llm="simulator", embedding="simulator")).values()
    assert {"--model=small=llm", "--model=bge=embedding"} <= set(one.command)
    assert "--seed=7" not in one.command
    assert len(engines(plan(mixed(), llm="simulator"))) == 2


@pytest.mark.parametrize(
    ("backends", "unused"),
    [
        ({"llm": "simulator", "embedding": "simulator"}, []),
        ({"llm": "simulator"}, ["llm"]),
        ({"llm": "simulator", "embedding": "tei"}, ["embedding", "llm"]),
    ],
)
def test_a_backend_for_one_role_alone_is_unused(
    backends: dict[str, str], unused: list[str]
) -> None:
    pool = InferencePool.from_object(pool_object(groups=[mixed()]))
    assert unused_backends(pool, backends) == unused


@pytest.fixture
def sage(tmp_path: Path) -> Sage:
    return sage_with_vllm(tmp_path)


def answers(base: str) -> bool:
    """Whether both models answer at the pool's address."""
    chat = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    with httpx.Client(base_url=f"{base}/v1", timeout=30) as client:
        told = client.post("/chat/completions", json=chat)
        vectors = client.post("/embeddings", json={"model": "bge", "input": ["a", "b"]})
    return told.status_code == 200 and len(vectors.json().get("data", ())) == 2


def test_both_answer_have_a_line_each_and_start_again_together(sage: Sage, tmp_path: Path) -> None:
    names = ("mixed-0", "mixed-0-embedding")
    with sage.pool(write_pool(tmp_path / "p", groups=[mixed()])):
        status = sage.status()
        assert [part_of(status, name)["phase"] for name in names] == ["ready", "ready"]
        assert len({part_of(status, name)["url"] for name in names}) == 2
        assert [part_of(status, name)["in_flight"] for name in names] == [0, 0]
        assert answers(status["address"])
        assert "serving" in sage.run("inference", "logs", names[1]).out
        before = {name: part_of(status, name)["pid"] for name in names}
        kill(before[names[1]])
        wait_until(
            lambda: [part_of(sage.status(), name)["restarts"] for name in names] == [1, 1],
            "both started again",
        )
        wait_until(lambda: sage.status()["outcome"] == "ready", "ready again")
        status = sage.status()
        assert not set(before.values()) & {part_of(status, name)["pid"] for name in names}
        assert answers(status["address"])


def test_a_port_that_is_none_is_refused_as_in_a_cluster(sage: Sage, tmp_path: Path) -> None:
    group = mixed(engine={"type": "vllm", "port": 65535})
    path = write_pool(tmp_path / "p", groups=[group])
    ended = sage.run("inference", "start", f"-f{path}", f"-p{free_port()}")
    assert ended.code == 2
    assert "engine.port" in ended.err
