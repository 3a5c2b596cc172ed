"""cost_optimized: the cheapest instance that still meets deadline and budget."""

from typing import Any, Final

from sagepool_router.scheduling.policies.policy import Outlook, PlacementRule
from sagepool_router.scheduling.work import Work


class CostOptimized:
    """Arrival order; only the place is chosen by price."""

    name: Final = "cost_optimized"

    def patience_s(self, work: Work[Any], now: float, outlook: Outlook) -> float:
        """None: the order does not change what anything costs."""
        return 0.0

    def is_late(self, work: Work[Any], now: float, outlook: Outlook) -> bool:
        """Never: what is late takes the fastest instance instead."""
        return False

    def placement(self, priority: int) -> PlacementRule:
        """The cheapest."""
        return "cheapest"
