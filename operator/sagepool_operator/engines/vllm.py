"""vLLM 0.25: generates (role llm) or pools (role embedding)."""

from typing import Final

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

_CACHE: Final = "/var/cache/vllm"
_DRAIN_S: Final = 60
"""How long running requests may go on after SIGTERM. vLLM's own default kills them at once."""
_LORA_UPDATES: Final = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
_KEEP_ALIVE_S: Final = 75
"""vLLM's default of 5 s is so close to the routers' idle limit of 4 s that a request could meet a
connection that vLLM is just closing. The side that sends requests has to be the one that closes."""


def build(group: Group, images: Images, cached_at: str) -> EngineContainer:
    """The container that serves the group's model."""
    return EngineContainer(
        image=group.engine.image or images.vllm,
        command=("vllm", "serve"),
        args=(
            model_place(group, cached_at),
            *merge_args(_flags(group, cached_at), group.engine.args),
        ),
        env=merge_env(
            (
                {"name": "HF_HOME", "value": f"{_CACHE}/huggingface"},
                {"name": "VLLM_CACHE_ROOT", "value": f"{_CACHE}/compiled"},
                {"name": "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "value": str(_KEEP_ALIVE_S)},
                # Adapters come from the hub also where the model does not.
                *(hub_token(group, "HF_TOKEN") if not cached_at or group.lora_room else ()),
                *(({"name": _LORA_UPDATES, "value": "1"},) if group.lora_room else ()),
            ),
            group.engine.env,
        ),
        cache_path=_CACHE,
        load_limit_s=3600,
        stop_limit_s=_DRAIN_S + 15,
    )


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
