"""priority: by priority, then arrival; the urgent go where they are answered soonest."""

from typing import Any, Final

from sagepool_router.scheduling.policies.policy import Outlook, PlacementRule
from sagepool_router.scheduling.work import Work

AGEING_S: Final = 10.0
"""Waiting so long is worth one level of priority, so background work waits at most 40 s longer."""
_URGENT: Final = 1
"""high, and what is above it."""


class Priority:
    """Each level stands back ten seconds more than the one above it."""

    name: Final = "priority"

    def patience_s(self, work: Work[Any], now: float, outlook: Outlook) -> float:
        """Ten seconds a level."""
        return work.priority * AGEING_S

    def is_late(self, work: Work[Any], now: float, outlook: Outlook) -> bool:
        """Never: deadlines do not matter here."""
        return False

    def placement(self, priority: int) -> PlacementRule:
        """Critical and high: the lowest expected latency; the others: the least loaded."""
        return "lowest_latency" if priority <= _URGENT else "least_loaded"
