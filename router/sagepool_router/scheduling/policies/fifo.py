"""fifo: arrival order, least loaded instance."""

from typing import Any, Final

from sagepool_router.scheduling.policies.policy import Outlook, PlacementRule
from sagepool_router.scheduling.work import Work


class Fifo:
    """Nobody stands back."""

    name: Final = "fifo"

    def patience_s(self, work: Work[Any], now: float, outlook: Outlook) -> float:
        """None."""
        return 0.0

    def is_late(self, work: Work[Any], now: float, outlook: Outlook) -> bool:
        """Never: deadlines do not matter here."""
        return False

    def placement(self, priority: int) -> PlacementRule:
        """The least loaded instance."""
        return "least_loaded"
