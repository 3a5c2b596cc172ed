"""Whether models fit into the GPUs that their engines get, as the operator reckons it.

Here the driver says what a GPU has, so that `gpu.memory` is not needed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from sagepool.laptop.errors import WrongUse
from sagepool.laptop.gpus import Gpu
from sagepool.laptop.launch import Launch
from sagepool.laptop.models import ConfigReader, Wanted
from sagepool_crds.pool import Group
from sagepool_operator.conditions import judge_fit
from sagepool_operator.engines.container import HUB_SCHEME
from sagepool_operator.fit import ModelConfig
from sagepool_operator.sizing import HubModel, size_group


def refuse_large_models(
    groups: Sequence[Group],
    launch: Launch,
    read_gpus: Callable[[], Sequence[Gpu]],
    wanted: Iterable[Wanted],
    read_config: ConfigReader,
) -> None:
    """See that no model is too large for its share of a GPU, as far as that can be told.

    Args:
        groups: those of which engines run here.
        launch: which GPUs their engines get.
        read_gpus: asks for the GPUs; called only where an engine gets one.
        wanted: what the engines load.
        read_config: reads a model's config.json; None: it cannot be had.

    Raises:
        WrongUse: one is, in the words of the condition ModelsFit.
    """
    on_gpu = [part for part in launch.parts if part.gpus and part.engine == "vllm"]
    if not on_gpu:
        return
    total_bytes = {gpu.uuid: gpu.total_bytes for gpu in read_gpus()}
    memory_bytes = {
        name: min(total_bytes[uuid] for part in on_gpu if part.group == name for uuid in part.gpus)
        for name in {part.group for part in on_gpu}
    }
    large = describe_large_models(groups, memory_bytes, _read_configs(wanted, read_config))
    if large:
        raise WrongUse(large)


def describe_large_models(
    groups: Iterable[Group],
    memory_bytes: Mapping[str, int],
    configs: Mapping[HubModel, ModelConfig | str],
) -> str:
    """Which models cannot fit; empty: none, as far as it can be told. Pure.

    Args:
        groups: those of which engines run here.
        memory_bytes: of the smallest GPU that engines of a group get, by group.
        configs: of models on the hub, or why nothing is known of one.
    """
    fits = [
        fit
        for group in groups
        if group.name in memory_bytes
        for fit in size_group(_on_gpu_of(group, memory_bytes[group.name]), configs)
    ]
    judged = judge_fit(fits)
    return judged.message if judged is not None and judged.is_true is False else ""


def _on_gpu_of(group: Group, memory_bytes: int) -> Group:
    gpu = group.gpu and group.gpu.model_copy(update={"memory": str(memory_bytes)})
    return group.model_copy(update={"gpu": gpu})


def _read_configs(
    wanted: Iterable[Wanted], read_config: ConfigReader
) -> dict[HubModel, ModelConfig | str]:
    return {
        HubModel(f"{HUB_SCHEME}{model.repository}", model.revision): _read(read_config(model))
        for model in wanted
        if model.kind == "model"
    }


def _read(content: bytes | None) -> ModelConfig | str:
    if content is None:
        return "its config.json cannot be had"
    try:
        return ModelConfig.model_validate_json(content)
    except ValueError:
        return "its config.json has not the form of a text model's"
