"""One engine without a pool: what it becomes, and what is said where it cannot run."""

from pathlib import Path

import pytest

from sagepool.laptop.engine import EngineRequest, plan_engine
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
