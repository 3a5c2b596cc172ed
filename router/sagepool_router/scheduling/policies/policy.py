"""What a policy decides: how long work may stand back, and how its place is chosen."""

from dataclasses import dataclass
from math import inf
from typing import Any, Literal, Protocol, TypeAlias

from sagepool_router.scheduling.settings import PolicyName, Targets
from sagepool_router.scheduling.work import Work

PlacementRule: TypeAlias = Literal["least_loaded", "lowest_latency", "cheapest"]


@dataclass(slots=True)
class Outlook:
    """What the policies of one lane may know; kept up to date by its owner."""

    targets: Targets
    waiting: int = 0
    waiting_deadlines: int = 0
    waiting_priorities: int = 0
    """How many different priorities wait."""
    load: float = 0.0
    """Calls in flight over what the instances take, 0 to 1."""
    prices_differ: bool = False
    service_s: float = 0.0
    """How long a request takes at present, from its placement to its end; 0: not known."""


class Policy(Protocol):
    """Orders what waits for one model and says how places are chosen. Implementations are pure."""

    @property
    def name(self) -> PolicyName:
        """As the pool names it."""

    def patience_s(self, work: Work[Any], now: float, outlook: Outlook) -> float:
        """How long the work lets others of the same flow's standing pass, in seconds from now.

        Asked when it comes (`now` is then, even if it is asked later), and again if it is late.
        """

    def is_late(self, work: Work[Any], now: float, outlook: Outlook) -> bool:
        """Whether work that is due next should rather stand back, because it is too late."""

    def placement(self, priority: int) -> PlacementRule:
        """How the instance is chosen for work of this priority."""


def due_at(work: Work[Any], outlook: Outlook) -> float:
    """When the work should be done: by its own deadline, or as the pool has promised itself."""
    if work.deadline_at != inf:
        return work.deadline_at
    targets = outlook.targets
    promised = targets.embedding_s if work.kind == "embedding" else targets.chat_ttft_s
    return work.arrived_at + promised + outlook.service_s
