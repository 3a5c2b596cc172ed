"""vLLM in a pool and alone, with a program of that name that is a simulator underneath."""

import json
from pathlib import Path
from typing import Any

import pytest

from e2e_waiting import wait_until
from model_hub import HubModel, model_hub
from sage_command import Sage, free_port, kill, part_of, until_gone, write_pool
from sage_vllm import sage_with_vllm

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """What the program was started with."""
    return tmp_path / "seen.json"


@pytest.fixture
def sage(tmp_path: Path) -> Sage:
    return sage_with_vllm(tmp_path)


def vllm_group(model: str, **fields: object) -> dict[str, object]:
    return {
        "name": "chat",
        "role": "llm",
        "engine": {"type": "vllm"},
        "model": {"name": "tiny", "uri": f"hf://{model}"},
        **fields,
    }


def engine(sage: Sage) -> dict[str, Any]:
    """The only one that runs without a pool."""
    (found,) = json.loads(sage.run("llm", "status", "-o", "json").out)
    return part_of(found, "vllm")


def test_a_group_on_vllm_runs_vllm(sage: Sage, seen: Path, tmp_path: Path) -> None:
    with sage.pool(write_pool(tmp_path / "p", groups=[vllm_group("Qwen/Tiny")])):
        status = sage.status()
        assert part_of(status, "chat-0")["engine"] == "vllm"
        told = json.loads(seen.read_text())
        assert told["arguments"][:2] == ["serve", "Qwen/Tiny"]
        assert told["gpus"] == ""


def test_a_model_that_cannot_be_had_is_said_before_anything_starts(
    sage: Sage, tmp_path: Path
) -> None:
    path = write_pool(tmp_path / "p", groups=[vllm_group("Qwen/Other")])
    ended = sage.run("inference", "start", f"-f{path}", f"-p{free_port()}")
    assert ended.code == 2
    assert "group chat: model Qwen/Other is not in the cache" in ended.err
    assert "the hub cannot be reached" in ended.err
    assert not sage.home.exists()


def test_a_private_model_is_loaded_with_the_token_that_its_group_names(
    sage: Sage, seen: Path, tmp_path: Path
) -> None:
    group = vllm_group("acme/own")
    group["model"] = {
        "name": "own",
        "uri": "hf://acme/own",
        "tokenSecret": {"name": "hub", "key": "token"},
    }
    path = write_pool(tmp_path / "p", groups=[group])
    key = sage.home / "secrets" / "hub" / "token"
    key.parent.mkdir(parents=True)
    key.write_text("wrong\n")
    with model_hub({"acme/own": HubModel({"config.json": b"{}"}, token="right")}) as hub:
        there = Sage(sage.home, {**sage.environment, "HF_ENDPOINT": hub.url})
        ended = there.run("inference", "start", f"-f{path}", f"-p{free_port()}")
        assert (ended.code, ended.out) == (2, "")
        assert "group chat: model acme/own is not on the hub, or not for you" in ended.err
        key.write_text("right\n")
        with there.pool(path):
            assert json.loads(seen.read_text())["arguments"][:2] == ["serve", "acme/own"]


def test_an_adapter_of_the_hub_is_looked_for_before_the_engine_starts(
    sage: Sage, seen: Path
) -> None:
    words = ("llm", "run", "Qwen/Tiny", "--cpu", "-b", f"-p{free_port()}")
    with model_hub({"acme/bot": HubModel({"adapter_config.json": b"{}"})}) as hub:
        there = Sage(sage.home, {**sage.environment, "HF_ENDPOINT": hub.url})
        ended = there.run(*words, "--lora=bot=acme/none")
        assert (ended.code, seen.exists()) == (2, False)
        assert "--lora bot: adapter acme/none is not on the hub" in ended.err
        try:
            ended = there.run(*words, "--lora=bot=acme/bot")
            assert ended.code == 0, ended
            assert json.loads(seen.read_text())["arguments"][-1] == "bot=acme/bot"
        finally:
            there.run("llm", "stop")


def test_a_missing_gpu_is_said_before_anything_starts(sage: Sage, tmp_path: Path) -> None:
    sage = Sage(sage.home, {**sage.environment, "CUDA_VISIBLE_DEVICES": ""})
    path = write_pool(tmp_path / "p", groups=[vllm_group("Qwen/Tiny", gpu={"count": 1})])
    ended = sage.run("inference", "start", f"-f{path}", f"-p{free_port()}")
    assert ended.code == 2
    assert "group chat needs 1 GPU with 90% of the memory free for chat-0" in ended.err
    assert not sage.home.exists()


def test_one_engine_runs_without_a_pool(sage: Sage, seen: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "support-bot"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    port = free_port()
    ended = sage.run("llm", "run", "Qwen/Tiny", "--cpu", "-b", f"-p{port}", f"--lora=bot={adapter}")
    try:
        assert ended.code == 0, ended
        assert ended.out == f"engine {port} answers at http://127.0.0.1:{port}/v1\n"
        told = json.loads(seen.read_text())
        assert told["arguments"][-3:] == ["--enable-lora", "--lora-modules", f"bot={adapter}"]
        status = json.loads(sage.run("llm", "status", "-o", "json").out)[0]
        assert status["parts"][0]["models"] == ["Qwen/Tiny", "bot"]
        again = sage.run("llm", "run", "Qwen/Tiny", "--cpu", f"-p{port}")
        assert (again.code, f"runs on port {port} already" in again.err) == (1, True)
        assert "serving" in sage.run("llm", "logs").out
    finally:
        stopped = sage.run("llm", "stop", f"-p{port}")
    assert (stopped.code, stopped.out) == (0, f"engine {port} is stopped\n")
    assert sage.run("llm", "status").code == 3


def test_a_model_in_a_folder_is_found_from_wherever_the_engine_runs(
    sage: Sage, seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tuned").mkdir()
    monkeypatch.chdir(tmp_path)
    ended = sage.run("llm", "run", "./tuned", "--cpu", "-b", f"-p{free_port()}")
    try:
        assert ended.code == 0, ended
        assert json.loads(seen.read_text())["arguments"][1] == str(tmp_path / "tuned")
        assert engine(sage)["models"] == ["tuned"]
    finally:
        sage.run("llm", "stop")


@pytest.mark.parametrize("model", ["./nonexistent", "bad name"])
def test_what_is_neither_a_folder_nor_a_name_is_said(sage: Sage, model: str) -> None:
    ended = sage.run("llm", "run", model, "--cpu", f"-p{free_port()}")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert f"sage llm run: {model!r} is neither a folder here nor a model's name" in ended.err


def test_a_killed_engine_is_started_again_and_its_core_is_ended(sage: Sage, seen: Path) -> None:
    ended = sage.run("llm", "run", "Qwen/Tiny", "--cpu", "-b", f"-p{free_port()}")
    try:
        assert ended.code == 0, ended
        core = json.loads(seen.read_text())["core"]
        kill(engine(sage)["pid"])
        until_gone({"core": core})
        wait_until(lambda: engine(sage)["restarts"] == 1, "started again")
        wait_until(lambda: engine(sage)["phase"] == "ready", "ready again")
    finally:
        stopped = sage.run("llm", "stop")
    assert stopped.code == 0, stopped
    until_gone({"core": json.loads(seen.read_text())["core"]})


def test_an_adapter_is_served_on_its_base_model(sage: Sage, seen: Path) -> None:
    folder = sage.home / "finetuned" / "support-bot"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Tiny"}')
    ended = sage.run("finetune", "serve", "support-bot", "--cpu", "-b", f"-p{free_port()}")
    try:
        assert ended.code == 0, ended
        told = json.loads(seen.read_text())
        assert told["arguments"][1] == "Qwen/Tiny"
        assert told["arguments"][-1] == f"support-bot={folder}"
    finally:
        sage.run("llm", "stop")


def test_a_merged_model_is_served_under_its_name(sage: Sage, seen: Path, tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    ended = sage.run("finetune", "serve", str(folder), "--cpu", "-b", f"-p{free_port()}")
    try:
        assert ended.code == 0, ended
        told = json.loads(seen.read_text())
        assert told["arguments"][1] == str(folder)
        assert "--served-model-name=merged" in told["arguments"]
    finally:
        sage.run("llm", "stop")
