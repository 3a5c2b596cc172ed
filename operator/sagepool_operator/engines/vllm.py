"""vLLM 0.25: generates (role llm), pools (role embedding), or does both in two processes."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sagepool_crds.lora import MOST_ADAPTERS
from sagepool_crds.pool import Group
from sagepool_operator.config import Images
from sagepool_operator.engines.container import (
    EngineContainer,
    hub_token,
    merge_args,
    merge_env,
    model_place,
)
from sagepool_operator.engines.processes import processes_of
from sagepool_operator.programs import pair, pair_health

_CACHE: Final = "/var/cache/vllm"
_DRAIN_S: Final = 60
"""How long running requests may go on after SIGTERM. vLLM's own default kills them at once."""
_LORA_UPDATES: Final = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
_KEEP_ALIVE_S: Final = 75
"""vLLM's default of 5 s is so close to the routers' idle limit of 4 s that a request could meet a
connection that vLLM is just closing. The side that sends requests has to be the one that closes."""
_LOAD_LIMIT_S: Final = 3600
_STOP_LIMIT_S: Final = _DRAIN_S + 15
_SERVE: Final = ("vllm", "serve")
_PYTHON: Final = ("python3", "-I", "-S", "-c")
"""The image's own, without the packages in it: our programs need none."""


def build(group: Group, images: Images, folders: Sequence[str]) -> EngineContainer:
    """The container that serves the group's models."""
    processes = tuple(zip(processes_of(group), folders, strict=True))
    one = EngineContainer(
        image=group.engine.image or images.vllm,
        command=_SERVE,
        args=_arguments(*processes[0]),
        env=merge_env(_environment(processes), group.engine.env),
        cache_path=_CACHE,
        load_limit_s=_LOAD_LIMIT_S,
        stop_limit_s=_STOP_LIMIT_S,
    )
    if len(processes) == 1:
        return one
    chat, embedding = (process.engine.port for process, _ in processes)
    return replace(
        one,
        command=(*_PYTHON, inspect.getsource(pair)),
        args=(
            f"http://127.0.0.1:{chat}/health",
            str(_LOAD_LIMIT_S),
            str(_DRAIN_S + 5),  # before the kubelet's own limit: what has ended is told then
            *_SERVE,
            *one.args,
            pair.SEPARATOR,
            *_SERVE,
            *_arguments(*processes[1]),
        ),
        load_limit_s=2 * _LOAD_LIMIT_S,  # one after the other
        embedding_port=embedding,
        health_command=(*_PYTHON, inspect.getsource(pair_health), str(chat), str(embedding)),
    )


def _arguments(process: Group, cached_at: str) -> tuple[str, ...]:
    flags = merge_args(_flags(process, cached_at), process.engine.args)
    return (model_place(process, cached_at), *flags)


def _environment(processes: Sequence[tuple[Group, str]]) -> Iterator[Mapping[str, Any]]:
    yield {"name": "HF_HOME", "value": f"{_CACHE}/huggingface"}
    yield {"name": "VLLM_CACHE_ROOT", "value": f"{_CACHE}/compiled"}
    yield {"name": "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "value": str(_KEEP_ALIVE_S)}
    # Adapters come from the hub also where the model does not. The API server sees to it that two
    # models ask for one and the same token.
    tokens = (
        hub_token(process, "HF_TOKEN")
        for process, cached_at in processes
        if not cached_at or process.lora_room
    )
    yield from next((found for found in tokens if found), ())
    if any(process.lora_room for process, _ in processes):
        yield {"name": _LORA_UPDATES, "value": "1"}


def _flags(group: Group, cached_at: str) -> list[str]:
    flags = [
        "--host=0.0.0.0",
        f"--port={group.engine.port}",
        f"--served-model-name={group.model.name}",
        f"--shutdown-timeout={_DRAIN_S}",
    ]
    if group.role == "embedding":
        flags.append("--runner=pooling")
    if group.model.revision is not None and not cached_at:
        flags.append(f"--revision={group.model.revision}")
    if group.gpu is not None and group.gpu.count > 1:
        flags.append(f"--tensor-parallel-size={group.gpu.count}")
    if group.gpu is not None and group.gpu.memory_fraction is not None:
        flags.append(f"--gpu-memory-utilization={group.gpu.memory_fraction}")
    return [*flags, *_lora_flags(group)]


def _lora_flags(group: Group) -> list[str]:
    room = group.lora_room
    if room is None:
        return []
    return [
        "--enable-lora",
        f"--max-loras={room.max_loras}",
        f"--max-lora-rank={room.max_rank}",
        # All that a group may have stay in memory: vLLM cannot unload one that it has put out.
        f"--max-cpu-loras={MOST_ADAPTERS}",
    ]
