"""An engine process as the scheduler sees it: its load, and the indexes that have to know of it."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sagepool_crds.pool import Role
from sagepool_router.picker import Seat

if TYPE_CHECKING:
    from sagepool_router.scheduling.gpus import Gpu
    from sagepool_router.scheduling.lane import Lane

AnyLane: TypeAlias = "Lane[Any]"
AnySeat: TypeAlias = Seat[Any]


class Instance(ABC):
    """What calls are placed on and charged to.

    Args:
        name: for people, and its place on hash rings.
        kind: of the work that it takes.
        capacity: calls that it may have at first.
    """

    __slots__ = (
        "capacity",
        "gpu",
        "in_flight",
        "is_specialized",
        "kind",
        "lanes",
        "latency_class",
        "latency_s",
        "name",
        "price_per_hour",
        "seats",
        "tokens_per_s",
        "unanswered",
    )

    def __init__(self, name: str, kind: Role, capacity: int = 0) -> None:
        self.name = name
        self.kind: Role = kind
        self.gpu: Gpu | None = None
        """The GPU, if it is shared with work of the other kind."""
        self.lanes: list[AnyLane] = []
        """The queues that it serves."""
        self.seats: tuple[AnySeat, ...] = ()
        """Its places in the indexes."""
        self.in_flight = 0
        """Calls charged to it and not yet released."""
        self.unanswered = 0
        """Of these, llm requests that wait for their first byte."""
        self.capacity = capacity
        """How many calls may be charged to it now; 0 leaves it out."""
        self.latency_s = 0.0
        """Expected time from placement to the end of a call; 0: not known."""
        self.latency_class = 0
        """The same in steps of an eighth octave."""
        self.tokens_per_s = 0.0
        """Measured while it was busy; 0: not known."""
        self.price_per_hour = 0.0
        """Of the whole instance; 0: not known, and then as good as free."""
        self.is_specialized = True
        """Its GPU serves this kind of work alone."""

    def charge(self) -> None:
        """A call was placed on it."""
        self.in_flight += 1
        for seat in self.seats:
            seat.index.update(seat)

    def release(self) -> None:
        """A call that was placed on it has ended."""
        self.in_flight -= 1
        for seat in self.seats:
            seat.index.update(seat)

    def answered(self) -> None:
        """One of the llm requests has its first byte."""
        self.unanswered -= 1
        for seat in self.seats:
            seat.index.update(seat)

    def resize(self, capacity: int) -> None:
        """It may have so many calls from now on."""
        self.capacity = capacity
        for seat in self.seats:
            seat.index.update(seat)

    @abstractmethod
    def open_gate(self, is_open: bool) -> None:
        """Whether its GPU lets work of its kind start now."""


InstanceT = TypeVar("InstanceT", bound=Instance)
