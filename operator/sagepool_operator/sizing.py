"""What a group asks of its GPUs' memory, from its spec and its models' config.json. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sagepool_crds.pool import Group, InferencePool
from sagepool_crds.quantity import read_quantity
from sagepool_operator.engines.container import HUB_SCHEME
from sagepool_operator.engines.processes import processes_of
from sagepool_operator.fit import Estimate, Hardware, ModelConfig, estimate

_LENGTH: Final = "--max-model-len"
_CHANGES_NEED: Final = frozenset(
    {
        *("--config", "--cpu-offload-gb", "--data-parallel-size", "--dtype", "--hf-overrides"),
        *("--gpu-memory-utilization", "--kv-cache-dtype", "--kv-cache-memory-bytes"),
        *("--max-num-batched-tokens", "--model", "--pipeline-parallel-size", "--quantization"),
        *("--tensor-parallel-size", "-dp", "-pp", "-q", "-tp"),
    }
)
"""Arguments that make the need another one than is reckoned here."""
_FIELDS: Final = (
    ("engine.args", "raise gpu.memoryFraction or lower gpu.embeddingMemoryFraction"),
    ("engine.embeddingArgs", "raise gpu.embeddingMemoryFraction"),
)
"""Of each process of a group: where its arguments are, and how it is given more of their GPU."""
_UNITS: Final = {"": 1, "k": 10**3, "K": 2**10, "m": 10**6, "M": 2**20}


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the hub."""

    uri: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class GroupFit:
    """Whether a model of a group fits into its share of the GPUs."""

    group: str
    model: str
    """Its uri."""
    estimate: Estimate | str
    """Why nothing can be said, in words, when nothing can."""
    args_field: str = "engine.args"
    """Where its process is given further arguments."""
    share: str = ""
    """How its process is given more of a GPU that another one shares; empty: it is alone."""


def models_to_size(pool: InferencePool) -> tuple[HubModel, ...]:
    """Models on the hub of the groups that say how much memory their GPUs have."""
    processes = (process for group in pool.spec.groups for process in processes_of(group))
    sized = (p for p in processes if _memory_bytes(p) and _is_on_hub(p))
    return tuple(dict.fromkeys(_model_of(process) for process in sized))


def size_group(group: Group, configs: Mapping[HubModel, ModelConfig | str]) -> Iterator[GroupFit]:
    """Whether each model of a group fits into the share that its process has of the GPUs.

    Nothing where the group does not say into what, and nothing of a model that is not known.
    """
    processes = processes_of(group)
    for process, (field, share) in zip(processes, _FIELDS, strict=False):
        memory_bytes = _memory_bytes(process)
        config = configs.get(_model_of(process))
        if not _is_on_hub(process):
            config = "the operator reads a config.json on the hub only"
        if process.gpu is not None and memory_bytes and config is not None:
            hardware = Hardware(process.gpu.count, memory_bytes, process.gpu.memory_fraction)
            found = _estimate(process, field, config, hardware)
            more = share if len(processes) > 1 else ""
            yield GroupFit(group.name, process.model.uri or "", found, field, more)


def _model_of(group: Group) -> HubModel:
    return HubModel(group.model.uri or "", group.model.revision)


def _is_on_hub(group: Group) -> bool:
    return (group.model.uri or "").startswith(HUB_SCHEME)


def _memory_bytes(group: Group) -> int:
    if group.gpu is None or group.gpu.memory is None:
        return 0
    return int(read_quantity(group.gpu.memory) or 0)


def _estimate(
    process: Group, field: str, config: ModelConfig | str, hardware: Hardware
) -> Estimate | str:
    if isinstance(config, str):
        return config
    args = process.engine.args
    names = [argument.partition("=")[0].replace("_", "-") for argument in args]
    unknown = next((name for name in names if name in _CHANGES_NEED), None)
    if unknown is not None:
        return f"{field} has {unknown}, whose effect is not reckoned"
    if _LENGTH not in names:
        return estimate(config, hardware, None)
    place = names.index(_LENGTH)
    value = args[place].partition("=")[2] or "".join(args[place + 1 : place + 2])
    length = _read_length(value)
    if length is None:
        return f"{field} has {_LENGTH} {value}"
    return estimate(config, hardware, length)


def _read_length(text: str) -> int | None:
    """A length as vLLM reads it: 8192, 8k (thousands) or 8K (1024s)."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([kKmM]?)", text)
    if match is None:
        return None
    return int(float(match[1]) * _UNITS[match[2]]) or None
