"""Which module knows which engine."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from sagepool_crds.pool import EngineType, Group
from sagepool_operator.config import Images
from sagepool_operator.engines import simulator, tei, vllm
from sagepool_operator.engines.container import EngineContainer

_BUILDERS: Final[Mapping[EngineType, Callable[[Group, Images, str], EngineContainer]]] = (
    MappingProxyType({"vllm": vllm.build, "tei": tei.build, "simulator": simulator.build})
)


def build_engine(group: Group, images: Images, cached_at: str = "") -> EngineContainer:
    """What the group's engine needs of its container; `cached_at` is the folder of its model where
    the pool has cached it."""
    return _BUILDERS[group.engine.type](group, images, cached_at)
