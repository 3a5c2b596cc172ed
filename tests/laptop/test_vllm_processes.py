"""Groups on vLLM, with a program of that name that is a simulator underneath."""

import json
import os
from pathlib import Path

import pytest

from sage_command import Sage, free_port, part_of, write_pool

pytestmark = pytest.mark.timeout(120)

PROGRAM = """#!{python}
import json, os, sys
from pathlib import Path
seen = {{"arguments": sys.argv[1:], "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}}
Path({seen!r}).write_text(json.dumps(seen))
flags = dict(word[2:].split("=", 1) for word in sys.argv[3:] if "=" in word)
os.execv({python!r}, [{python!r}, "-m", "sagepool_simulator.cli", "serve", "--host=127.0.0.1",
    "--port=" + flags["port"], "--model=" + flags["served-model-name"]])
"""


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """What the program was started with."""
    return tmp_path / "seen.json"


@pytest.fixture
def sage(tmp_path: Path, seen: Path) -> Sage:
    """The command on a machine with vLLM and one model in the cache, without a network."""
    import sys

    programs = tmp_path / "bin"
    programs.mkdir()
    vllm = programs / "vllm"
    vllm.write_text(PROGRAM.format(python=sys.executable, seen=str(seen)))
    vllm.chmod(0o755)
    snapshot = tmp_path / "hub" / "models--Qwen--Tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = tmp_path / "hub" / "models--Qwen--Tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    return Sage(tmp_path / "home", environment)


def vllm_group(model: str, **fields: object) -> dict[str, object]:
    return {
        "name": "chat",
        "role": "llm",
        "engine": {"type": "vllm"},
        "model": {"name": "tiny", "uri": f"hf://{model}"},
        **fields,
    }


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
    assert "group chat: model Qwen/Other is not in the cache, and the hub cannot be" in ended.err
    assert not sage.home.exists()


def test_a_missing_gpu_is_said_before_anything_starts(sage: Sage, tmp_path: Path) -> None:
    sage = Sage(sage.home, {**sage.environment, "CUDA_VISIBLE_DEVICES": ""})
    path = write_pool(tmp_path / "p", groups=[vllm_group("Qwen/Tiny", gpu={"count": 1})])
    ended = sage.run("inference", "start", f"-f{path}", f"-p{free_port()}")
    assert ended.code == 2
    assert "group chat needs 1 GPU with 90% of the memory free for chat-0" in ended.err
    assert not sage.home.exists()
