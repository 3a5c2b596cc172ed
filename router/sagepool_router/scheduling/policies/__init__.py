"""The policies by name. A policy orders one model's queue and says how places are chosen.

`adaptive` picks among the four simple ones; `hybrid` uses one of these five for llm work, merges
embeddings, which are due by arrival, and shares GPUs between the two kinds.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sagepool_router.scheduling.policies.adaptive import AdaptiveChoice, SimpleName
from sagepool_router.scheduling.policies.cost_optimized import CostOptimized
from sagepool_router.scheduling.policies.fifo import Fifo
from sagepool_router.scheduling.policies.policy import Outlook, PlacementRule, Policy
from sagepool_router.scheduling.policies.priority import Priority
from sagepool_router.scheduling.policies.slo_aware import SloAware

SIMPLE: Final[Mapping[SimpleName, Policy]] = MappingProxyType(
    {
        "fifo": Fifo(),
        "priority": Priority(),
        "slo_aware": SloAware(),
        "cost_optimized": CostOptimized(),
    }
)
"""Those that decide by themselves."""

__all__ = ["SIMPLE", "AdaptiveChoice", "Outlook", "PlacementRule", "Policy", "SimpleName"]
