"""What the scheduler hands out: calls to be sent, and the refusal of what it does not take."""

from collections.abc import Sequence
from typing import Generic, Literal

import msgspec

from sagepool_router.scheduling.embedding_work import Slice
from sagepool_router.scheduling.gpus import Gpu
from sagepool_router.scheduling.instance import InstanceT
from sagepool_router.scheduling.lane import Lane
from sagepool_router.scheduling.work import Work


class QueueFullError(Exception):
    """No place, and no room to wait.

    Args:
        retry_after_s: when there will be.
        whose: whose share of the queue is full; None: all of it is.
    """

    def __init__(self, retry_after_s: float, whose: Literal["flow", "model"] | None = None) -> None:
        super().__init__(retry_after_s, whose)
        self.retry_after_s = retry_after_s
        self.whose = whose


class Call(msgspec.Struct, Generic[InstanceT], eq=False):
    """Work on its way: one request, or texts of several that travel together."""

    lane: Lane[InstanceT]
    work: Work[InstanceT]
    """The request; of several, the one that was due."""
    slices: Sequence[Slice[InstanceT]]
    """The texts of an embedding call; empty for all else."""
    place: InstanceT
    policy: str
    """Who decided for whom: the lane's label at that time."""
    reason: str
    """Why it is that place."""
    placed_at: float
    """On the place where it is."""
    texts: int = 0
    """To embed."""
    in_flight: int = 0
    """Calls on its place when it was placed there, itself included."""
    gpu: Gpu | None = None
    """The shared GPU that knows of it; the place may be on another one by now, or on none."""
    is_answered: bool = False
    """Its first byte has come."""

    @property
    def is_full(self) -> bool:
        """Whether it carries as much as an embedding call may."""
        return self.texts > 0 and self.lane.is_full(self.slices, self.texts)
