"""What the scheduler hands out: calls to be sent, and the refusal of what it does not take."""

from collections.abc import Sequence
from typing import Generic, Literal

from sagepool_router.scheduling.embedding_work import Slice
from sagepool_router.scheduling.gpus import Gpu, InstanceT
from sagepool_router.scheduling.lane import Lane
from sagepool_router.scheduling.placement import Choice
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

    __slots__ = (
        "gpu",
        "in_flight",
        "is_answered",
        "lane",
        "place",
        "placed_at",
        "policy",
        "reason",
        "slices",
        "work",
    )

    def __init__(
        self,
        lane: Lane[InstanceT],
        work: Work[InstanceT],
        slices: Sequence[Slice[InstanceT]],
        choice: Choice[InstanceT],
        now: float,
    ) -> None:
        self.lane = lane
        self.work = work
        """The request; of several, the one that was due."""
        self.slices = slices
        """The texts of an embedding call; empty for all else."""
        self.place = choice.place
        self.gpu: Gpu | None = None
        """The shared GPU that knows of it; the place may be on another one by now, or on none."""
        self.in_flight = 0
        """Calls on its place when it was placed there, itself included."""
        self.is_answered = False
        """Its first byte has come."""
        self.policy = lane.label
        self.reason = choice.reason
        self.placed_at = now
        """On the place where it is."""

    @property
    def is_full(self) -> bool:
        """Whether it carries as much as an embedding call may."""
        return bool(self.slices) and self.lane.is_full(self.slices)
