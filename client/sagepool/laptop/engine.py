"""A vLLM engine alone, without a pool: its launch."""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from sagepool.laptop.errors import NothingFound, WrongUse
from sagepool.laptop.gpus import Demand, Gpu, assign_gpus
from sagepool.laptop.home import Home
from sagepool.laptop.launch import PORT, Launch, PartLaunch
from sagepool.laptop.models import ADAPTER_CONFIG, Wanted
from sagepool.laptop.process import GRACE_S
from sagepool.laptop.programs import require_program

_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class EngineRequest(msgspec.Struct):
    """What was asked for."""

    model: str
    """OWNER/NAME on the hub, or a folder."""
    port: int
    name: str = ""
    """What clients send as `model`; empty: the model, of a folder its last name."""
    gpu_memory: float = 0.9
    tensor_parallel: int = 1
    on_cpu: bool = False
    adapters: dict[str, str] = {}
    """LoRA adapters: name → folder or OWNER/NAME."""


def plan_engine(request: EngineRequest, read_gpus: Callable[[], Sequence[Gpu]]) -> Launch:
    """The launch of one engine.

    Raises:
        WrongUse: vLLM or the GPUs are missing.
    """
    program = require_program("vllm", f"{request.model}")
    model, served = request.model, request.name or request.model
    if (folder := Path(model).absolute()).is_dir():  # the engine runs in another folder
        model, served = str(folder), request.name or folder.name
    command = [
        program,
        "serve",
        model,
        "--host=127.0.0.1",
        f"--port={PORT}",
        f"--served-model-name={served}",
        f"--shutdown-timeout={GRACE_S}",
    ]
    environment = {"CUDA_VISIBLE_DEVICES": ""}
    shares: dict[str, float] = {}
    if not request.on_cpu:
        name = f"the engine on port {request.port}"
        demand = Demand(
            name,
            request.model,
            request.tensor_parallel,
            request.gpu_memory,
            without_gpu="give --cpu, or run it where a GPU is",
            with_less="lower --gpu-memory or --tensor-parallel",
        )
        chosen = assign_gpus(read_gpus(), [demand])[name]
        shares = {gpu.uuid: request.gpu_memory for gpu in chosen}
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in chosen)
        command.append(f"--gpu-memory-utilization={request.gpu_memory:g}")
        command.append(f"--tensor-parallel-size={request.tensor_parallel}")
    if request.adapters:
        command += ["--enable-lora", "--lora-modules"]
        command += [f"{name}={path}" for name, path in request.adapters.items()]
    part = PartLaunch(
        name="vllm",
        kind="engine",
        command=command,
        health_path="/health",
        engine="vllm",
        models=[served, *request.adapters],
        environment=environment,
        port=request.port,
        gpus=shares,
    )
    return Launch(name=str(request.port), parts=[part], address=f"http://127.0.0.1:{request.port}")


def wanted_of_engine(request: EngineRequest) -> Iterator[Wanted]:
    """The model and the adapters, as far as they are on the hub."""
    if not Path(request.model).is_dir():
        yield Wanted(request.model, "sage llm run")
    for name, place in request.adapters.items():
        if not Path(place).is_absolute():
            yield Wanted(place, f"--lora {name}", kind="adapter")


def read_adapter(text: str) -> tuple[str, str]:
    """`NAME=FOLDER` or `NAME=OWNER/NAME` of a LoRA adapter; a folder comes back absolute.

    Raises:
        WrongUse: it is of neither form, or the folder holds no adapter.
    """
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise WrongUse(f"--lora is {text!r}: write NAME=FOLDER, or NAME=OWNER/NAME of the hub")
    if (Path(place) / ADAPTER_CONFIG).is_file():
        return name, str(Path(place).absolute())
    if _HUB_NAME.fullmatch(place) and not Path(place).exists():
        return name, place
    raise WrongUse(
        f"--lora {name}: {place} holds no {ADAPTER_CONFIG}: name an adapter's folder, or "
        "OWNER/NAME on the hub"
    )


def find_tuned_model(name: str, home: Home) -> EngineRequest:
    """The model that a fine-tuning left: a merged model, or an adapter with its base.

    Args:
        name: a folder, or the name of one in `~/.sage/finetuned`.
        home: where the state is kept.

    Raises:
        NothingFound: there is no such folder.
        WrongUse: the folder holds neither.
    """
    known = home.folder / "finetuned"
    folder = Path(name) if os.sep in name or Path(name).is_dir() else known / name
    if not folder.is_dir():
        found = sorted(path.name for path in known.iterdir()) if known.is_dir() else []
        raise NothingFound(
            f"there is no folder {folder}: give a folder, or one of {known}: "
            f"{', '.join(found) or 'empty'}"
        )
    folder, served = folder.absolute(), folder.name
    adapter = folder / ADAPTER_CONFIG
    if adapter.is_file():
        base = _base_model(adapter)
        return EngineRequest(base, 0, adapters={served: str(folder)})
    if (folder / "config.json").is_file():
        return EngineRequest(str(folder), 0, name=served)
    raise WrongUse(
        f"{folder} holds neither {ADAPTER_CONFIG} (LoRA) nor config.json (a merged model): "
        "name the folder that the fine-tuning wrote"
    )


def _base_model(adapter: Path) -> str:
    try:
        base = json.loads(adapter.read_text()).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise WrongUse(f"{adapter} cannot be read: {error}") from None
    if not isinstance(base, str) or not base:
        raise WrongUse(f"{adapter} names no base model: add base_model_name_or_path")
    return base
