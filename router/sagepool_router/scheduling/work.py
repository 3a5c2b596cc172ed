"""What waits for a place: one request, as the scheduler sees it."""

from math import inf
from typing import Final, Generic, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from sagepool_crds.pool import Role

PRIORITIES: Final = 5
"""0 (critical) to 4 (background)."""
State: TypeAlias = Literal["new", "waiting", "placed", "done"]


class Place(Protocol):
    """Where work can be placed: an engine process."""

    name: str
    """Of the instance."""
    in_flight: int
    """Calls charged to it."""
    capacity: int
    """How many may be charged to it now; 0 leaves it out."""


PlaceT = TypeVar("PlaceT", bound=Place)


class Work(msgspec.Struct, Generic[PlaceT], eq=False):
    """A request from its admission to its end.

    From `start_tag` on only the scheduler writes, but for `avoids`.
    """

    kind: Role
    model: str
    """The name that engines know."""
    arrived_at: float
    """Clock time of the request's head."""
    owner: object = None
    """Whom it belongs to; the scheduler does not look at it."""
    priority: int = 2
    """0 (critical) to 4 (background)."""
    deadline_at: float = inf
    """Clock time after which nobody wants the answer."""
    flow: str = ""
    """Whose it is, for fairness: an API key, a session, or nobody."""
    weight: float = 1.0
    """Of that flow."""
    tokens: int = 1
    """Estimated work; a token to be generated counts twice, as one to be read once."""
    texts: int = 0
    """To embed."""
    budget: float = inf
    """Most that it may cost, in the currency of the prices."""
    affinity: int | None = None
    """Key of what it shares with others, None without."""
    streams: bool = True
    """Its answer is passed on as it is written: its first byte is its first token."""
    start_tag: float = 0.0
    """Virtual time at which its flow is due for it."""
    state: State = "new"
    rank: float = 0.0
    """Its place in the queue: start tag and patience; the lowest is next."""
    sequence: int = 0
    """Order of arrival, among equal ranks."""
    is_late: bool = False
    """It cannot make its deadline any more."""
    place: PlaceT | None = None
    """Where it was placed last."""
    placed_at: float = 0.0
    avoids: tuple[PlaceT, ...] = ()
    """What has failed it: it does not go there again. What was only full is not among them."""

    def __lt__(self, other: "Work[PlaceT]") -> bool:
        """For heaps: the one that is next comes first."""
        if self.rank != other.rank:
            return self.rank < other.rank
        return self.sequence < other.sequence
