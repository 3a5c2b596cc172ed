"""slo_aware: by slack, the time that is left before a request must be started.

Earliest deadline first is optimal while everything can be met and collapses when it cannot: it
then serves what is lost anyway. So a request whose slack is gone stands back instead, and the
place goes to one that can still make it.
"""

from typing import Any, Final

from sagepool_router.scheduling.policies.policy import Outlook, PlacementRule, due_at
from sagepool_router.scheduling.work import Work

DEMOTED_S: Final = 30.0
"""How long a request that cannot make it any more lets the others pass."""
_MAX_SLACK_S: Final = 60.0
"""More slack than this does not let a request wait longer."""


class SloAware:
    """Who has the least slack is next."""

    name: Final = "slo_aware"

    def patience_s(self, work: Work[Any], now: float, outlook: Outlook) -> float:
        """Its slack; what is too late stands back."""
        if work.is_late:
            return DEMOTED_S
        slack = due_at(work, outlook) - outlook.service_s - now
        return min(max(0.0, slack), _MAX_SLACK_S)

    def is_late(self, work: Work[Any], now: float, outlook: Outlook) -> bool:
        """Were it started now, it would be answered after its deadline.

        Without a deadline somebody still wants the answer, however late.
        """
        return work.deadline_at - outlook.service_s < now

    def placement(self, priority: int) -> PlacementRule:
        """The lowest expected latency."""
        return "lowest_latency"
