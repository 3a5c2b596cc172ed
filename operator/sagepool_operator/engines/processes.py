"""The engine processes of a group's pods, each as a group of its own. Pure."""

from typing import Any, Final

from sagepool_crds.group_rules import EMBEDDING_MEMORY_FRACTION, MIXED_MEMORY_FRACTION
from sagepool_crds.pool import Gpu, Group

_DIGITS: Final = 6


def processes_of(group: Group) -> tuple[Group, ...]:
    """What each process serves, with its own model, arguments, port and share of the GPU's memory.

    One, the group itself; of a group of role llm_embedding on vLLM two, in the order of `served`.
    The simulator plays both models in one process.
    """
    second = group.embedding_model
    if second is None or group.engine.type != "vllm":
        return (group,)
    engine = group.engine.model_copy(update={"embedding_args": []})
    chat: dict[str, Any] = {"role": "llm", "embedding_model": None, "engine": engine}
    embedding: dict[str, Any] = {
        "role": "embedding",
        "model": second,
        "embedding_model": None,
        "adapters": [],
        "lora": None,
        "engine": engine.model_copy(
            update={"args": group.engine.embedding_args, "port": group.engine.port + 1}
        ),
    }
    if group.gpu is not None:
        chat["gpu"], embedding["gpu"] = _split(group.gpu)
    return (group.model_copy(update=chat), group.model_copy(update=embedding))


def _split(gpu: Gpu) -> tuple[Gpu, Gpu]:
    whole = gpu.memory_fraction or MIXED_MEMORY_FRACTION
    part = gpu.embedding_memory_fraction or EMBEDDING_MEMORY_FRACTION
    shares = (round(whole - part, _DIGITS), part)
    chat, embedding = (
        gpu.model_copy(update={"memory_fraction": share, "embedding_memory_fraction": None})
        for share in shares
    )
    return chat, embedding
