"""What the autoscaler looks at between two reconciles of a pool."""

from dataclasses import dataclass
from datetime import datetime

from sagepool_crds.scaling import Scaling
from sagepool_operator.router_pods import RouterPod


@dataclass(frozen=True, slots=True)
class ScaledGroup:
    """A group that is scaled by what routers report."""

    name: str
    scaling: Scaling
    wanted: int
    """Engines that its Deployment asks for."""
    ready_since: tuple[datetime, ...]
    """Since when each engine that answers does."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A pool's scaled groups, and who reports what they are wanted for."""

    routers: tuple[RouterPod, ...]
    groups: tuple[ScaledGroup, ...]
