"""What the scheduler hands out: calls to be sent, and the refusal of what it does not take."""

from collections.abc import Sequence
from typing import Generic, Literal

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


class Call(Generic[InstanceT]):
    """Work on its way: one request, or texts of several that travel together."""

    in_flight: int = 0
    """Calls on its place when it was placed there, itself included."""
    gpu: Gpu | None = None
    """The shared GPU that knows of it; the place may be on another one by now, or on none."""
    is_answered: bool = False
    """Its first byte has come."""

    def __init__(
        self,
        lane: Lane[InstanceT],
        work: Work[InstanceT],
        slices: Sequence[Slice[InstanceT]],
        place: InstanceT,
        policy: str,
        reason: str,
        placed_at: float,
        texts: int = 0,
    ) -> None:
        self.lane = lane
        self.work = work
        """The request; of several, the one that was due."""
        self.slices = slices
        """The texts of an embedding call; empty for all else."""
        self.place = place
        self.policy = policy
        """Who decided for whom: the lane's label at that time."""
        self.reason = reason
        """Why it is that place."""
        self.placed_at = placed_at
        """On the place where it is."""
        self.texts = texts
        """To embed."""

    @property
    def is_full(self) -> bool:
        """Whether it carries as much as an embedding call may."""
        return self.texts > 0 and self.lane.is_full(self.slices, self.texts)
