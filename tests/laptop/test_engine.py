"""One engine without a pool: what it becomes, and what is said where it cannot run."""

from pathlib import Path

import pytest

from sagepool.laptop.engine import EngineRequest, plan_engine, read_adapter, wanted_of_engine
from sagepool.laptop.errors import WrongUse
from sagepool.laptop.gpus import Gpu


@pytest.fixture(autouse=True)
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder on the PATH with vLLM in it."""
    (tmp_path / "vllm").write_text("#!/bin/sh\n")
    (tmp_path / "vllm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize(
    ("gpus", "says"),
    [
        ([], "shows no NVIDIA GPU: give --cpu, or run it where a GPU is"),
        (
            [Gpu(0, "GPU-a", "H100", 100, 20)],
            r"left are GPU 0 \(H100\) 20%: lower --gpu-memory or --tensor-parallel, or stop",
        ),
    ],
)
def test_a_gpu_that_it_lacks_is_said_in_words_of_its_options(gpus: list[Gpu], says: str) -> None:
    with pytest.raises(WrongUse, match=f"^o/m needs 1 GPU .* for the engine on port 8001.*{says}"):
        plan_engine(EngineRequest("o/m", 8001), lambda: gpus)


def test_an_adapter_is_a_folder_here_or_a_name_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "here" / "bot"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    assert read_adapter("bot=here/bot") == ("bot", str(folder))
    assert read_adapter("bot=acme/bot") == ("bot", "acme/bot")


@pytest.mark.parametrize("place", ["empty/bot", "./acme/bot", "/acme/bot", "bot", "a/b/c", "../b"])
def test_what_is_neither_an_adapter_s_folder_nor_a_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / "bot").mkdir(parents=True)
    with pytest.raises(WrongUse, match=f"--lora bot: {place} holds no adapter_config.json: name"):
        read_adapter(f"bot={place}")


def test_what_it_loads_from_the_hub_is_looked_for_there(tmp_path: Path) -> None:
    adapters = {"bot": "acme/bot", "mine": str(tmp_path)}
    model, adapter = wanted_of_engine(EngineRequest("o/m", 8001, adapters=adapters))
    assert str(model) == "sage llm run: model o/m"
    assert str(adapter) == "--lora bot: adapter acme/bot"
    assert not list(wanted_of_engine(EngineRequest(str(tmp_path), 8001)))
