"""What waits for a place: one request, as the scheduler sees it."""

from math import inf
from typing import Final, Generic, Literal, Protocol, TypeAlias, TypeVar

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


class Work(Generic[PlaceT]):
    """A request from its admission to its end.

    From `start_tag` on only the scheduler writes, but for `avoids`.

    Args:
        kind: of the model.
        model: the name that engines know.
        arrived_at: clock time of the request's head.
        owner: whom it belongs to; the scheduler does not look at it.
        priority: 0 (critical) to 4 (background).
        deadline_at: clock time after which nobody wants the answer.
        flow: whose it is, for fairness: an API key, a session, or nobody.
        weight: of that flow.
        tokens: estimated work; a token to be generated counts twice, as one to be read once.
        texts: to embed.
        budget: most that it may cost, in the currency of the prices.
        affinity: key of what it shares with others, None without.
        streams: its answer is passed on as it is written: its first byte is its first token.
    """

    start_tag: float = 0.0
    """Virtual time at which its flow is due for it."""
    state: State = "new"
    rank: float = 0.0
    """Its place in the queue: start tag and patience; the lowest is next."""
    sequence: int = 0
    """Order of arrival, among equal ranks."""
    is_late: bool = False
    """It cannot make its deadline any more."""
    placed_at: float = 0.0
    avoids: tuple[PlaceT, ...] = ()
    """What has failed it: it does not go there again. What was only full is not among them."""

    def __init__(
        self,
        kind: Role,
        model: str,
        arrived_at: float,
        owner: object = None,
        *,
        priority: int = 2,
        deadline_at: float = inf,
        flow: str = "",
        weight: float = 1.0,
        tokens: int = 1,
        texts: int = 0,
        budget: float = inf,
        affinity: int | None = None,
        streams: bool = True,
    ) -> None:
        self.kind: Role = kind
        self.model = model
        self.arrived_at = arrived_at
        self.owner = owner
        self.priority = priority
        self.deadline_at = deadline_at
        self.flow = flow
        self.weight = weight
        self.tokens = tokens
        self.texts = texts
        self.budget = budget
        self.affinity = affinity
        self.streams = streams
        self.place: PlaceT | None = None
        """Where it was placed last."""

    def __hash__(self) -> int:
        return id(self)  # compiled, a class with an order has no hash unless it says so

    def __lt__(self, other: "Work[PlaceT]") -> bool:
        """For heaps: the one that is next comes first."""
        if self.rank != other.rank:
            return self.rank < other.rank
        return self.sequence < other.sequence
