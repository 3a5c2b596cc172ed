"""What the autoscaler looks at between two reconciles of a pool."""

from dataclasses import dataclass
from datetime import datetime

from sagepool_crds.scaling import Scaling


@dataclass(frozen=True, slots=True)
class RouterPod:
    """A router that reports."""

    uid: str
    """Of its pod: it counts once, whatever its address."""
    url: str
    """Of its admin port."""


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
