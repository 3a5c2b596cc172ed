"""Which module knows which engine."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from sagepool_crds.pool import EngineType, Group
from sagepool_operator.config import Images
from sagepool_operator.engines import simulator, tei, vllm
from sagepool_operator.engines.container import EngineContainer

_Builder: TypeAlias = Callable[[Group, Images, Sequence[str]], EngineContainer]

_BUILDERS: Final[Mapping[EngineType, _Builder]] = MappingProxyType(
    {"vllm": vllm.build, "tei": tei.build, "simulator": simulator.build}
)


def build_engine(group: Group, images: Images, *folders: str) -> EngineContainer:
    """What the group's engine needs of its container.

    `folders` are where its models lie in the container, in the order of `served`, with an empty
    text for one that the engine fetches for itself; left out: it fetches all.
    """
    return _BUILDERS[group.engine.type](group, images, folders or ("",) * len(group.served))
