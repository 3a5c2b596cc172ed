"""A model that cannot fit into its share of a GPU is said before its engine starts."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from crd_objects import group_object, mixed_group_object, pool_object
from laptop_plan import install_vllm
from model_configs import QWEN_7B
from sage_command import free_port
from sagepool.laptop.errors import WrongUse
from sagepool.laptop.gpus import Gpu
from sagepool.laptop.home import Home
from sagepool.laptop.models import Wanted
from sagepool.laptop.request import StartRequest, prepare

GIB = 2**30
Start = Callable[..., list[str]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Prepares a start and returns the models whose config.json was read."""
    install_vllm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    file = tmp_path / "pool.yaml"

    def prepared(
        group: dict[str, Any],
        *gpus_gib: int,
        config: bytes | None = json.dumps(QWEN_7B).encode(),
        **options: str,
    ) -> list[str]:
        asked: list[str] = []

        def read_config(wanted: Wanted) -> bytes | None:
            asked.append(wanted.repository)
            return config

        def read_gpus() -> Sequence[Gpu]:
            sizes = enumerate(gib * GIB for gib in gpus_gib)
            return [Gpu(n, f"GPU-{n}", "L4", size, size) for n, size in sizes]

        file.write_text(json.dumps(pool_object(groups=[group])))
        prepare(
            StartRequest(file=str(file), port=free_port(), **options),
            Home(tmp_path / "home"),
            read_gpus=read_gpus,
            check_model=lambda _: None,
            read_config=read_config,
        )
        return asked

    return prepared


def vllm(*args: str, **gpu: Any) -> dict[str, Any]:
    return group_object(
        name="chat",
        engine={"type": "vllm", "args": list(args)},
        model={"name": "qwen", "uri": "hf://Qwen/Qwen2.5-7B-Instruct"},
        gpu={"count": 1, **gpu},
        replicas=1,
    )


def test_a_model_that_cannot_fit_is_said_in_the_words_of_the_condition(start: Start) -> None:
    with pytest.raises(WrongUse) as refused:
        start(vllm(), 16)
    assert str(refused.value).startswith(
        "group chat: hf://Qwen/Qwen2.5-7B-Instruct: each GPU needs at least 16."
    )
    assert "(weights 14.2, KV cache of 32768 tokens 1.8), and vllm may take 14.7" in str(
        refused.value
    )
    assert "raise gpu.count, take GPUs with more memory" in str(refused.value)


def test_a_model_that_fits_is_started(start: Start) -> None:
    assert start(vllm(), 24) == ["Qwen/Qwen2.5-7B-Instruct"]


def test_it_is_held_against_its_share_of_the_gpu(start: Start) -> None:
    with pytest.raises(WrongUse, match=r"and vllm may take 12\.0"):
        start(vllm(memoryFraction=0.5), 24)


def test_what_the_driver_says_counts_and_not_what_the_file_says(start: Start) -> None:
    assert start(vllm(memory="16Gi"), 24)
    with pytest.raises(WrongUse, match=r"vllm may take 14\.7"):
        start(vllm(memory="80Gi"), 16)


def test_a_model_over_two_gpus_is_held_against_the_smaller_one(start: Start) -> None:
    assert start(vllm(count=2), 24, 16)
    with pytest.raises(WrongUse, match=r"vllm may take 7\.4"):
        start(vllm(count=2), 24, 8)


def test_each_model_of_a_group_is_held_against_its_own_share(start: Start) -> None:
    mixed = mixed_group_object(
        engine={"type": "vllm"},
        model={"name": "small", "uri": "hf://o/chat"},
        embeddingModel={"name": "bge", "uri": "hf://o/embed"},
        gpu={"memoryFraction": 0.9, "embeddingMemoryFraction": 0.1},
        replicas=1,
    )
    with pytest.raises(WrongUse) as refused:
        start(mixed, 80)
    assert "hf://o/embed: each GPU needs" in str(refused.value)
    assert "hf://o/chat" not in str(refused.value)


@pytest.mark.parametrize("config", [None, b"no json", b'{"architectures": ["NewForCausalLM"]}'])
def test_what_is_not_known_refuses_nothing(start: Start, config: bytes | None) -> None:
    assert start(vllm(), 16, config=config)


def test_an_argument_that_is_not_reckoned_refuses_nothing(start: Start) -> None:
    assert start(vllm("--quantization=fp8"), 16)


def test_where_no_engine_gets_a_gpu_nothing_is_read(start: Start) -> None:
    assert start(vllm(), 16, llm_backend="simulator") == []
