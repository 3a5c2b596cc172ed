"""What waits for a place: one request, as the scheduler sees it."""

from math import inf
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from sagepool_crds.pool import Role

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
    """A request from its admission to its end. What is no parameter only the scheduler writes, but
    for `owner`, `streams` and `avoids`.

    Args:
        kind: llm or embedding.
        model: the name that engines know.
        arrived_at: clock time of the request's head.
        priority: 0 (critical) to 4 (background).
        deadline_at: clock time after which nobody wants the answer.
        flow: whose it is, for fairness: an API key, a session, or nobody.
        weight: of that flow.
        tokens: estimated work; a token to be generated counts twice, as one to be read once.
        texts: to embed.
        budget: most that it may cost, in the currency of the prices.
        affinity: key of what it shares with others, None without.
    """

    __slots__ = (
        "affinity",
        "arrived_at",
        "avoids",
        "budget",
        "deadline_at",
        "flow",
        "is_late",
        "kind",
        "model",
        "owner",
        "place",
        "placed_at",
        "priority",
        "rank",
        "sequence",
        "start_tag",
        "state",
        "streams",
        "texts",
        "tokens",
        "weight",
    )

    def __init__(
        self,
        kind: Role,
        model: str,
        arrived_at: float,
        *,
        priority: int = 2,
        deadline_at: float = inf,
        flow: str = "",
        weight: float = 1.0,
        tokens: int = 1,
        texts: int = 0,
        budget: float = inf,
        affinity: int | None = None,
    ) -> None:
        self.kind = kind
        self.model = model
        self.arrived_at = arrived_at
        self.priority = priority
        self.deadline_at = deadline_at
        self.flow = flow
        self.weight = weight
        self.tokens = tokens
        self.texts = texts
        self.budget = budget
        self.affinity = affinity
        self.state: State = "new"
        self.start_tag = 0.0
        """Virtual time at which its flow is due for it."""
        self.rank = 0.0
        """Its place in the queue: start tag and patience; the lowest is next."""
        self.sequence = 0
        """Order of arrival, among equal ranks."""
        self.is_late = False
        """It cannot make its deadline any more."""
        self.streams = True
        """Its answer is passed on as it is written: its first byte is its first token."""
        self.owner: object = None
        """Whom it belongs to; the scheduler does not look at it."""
        self.place: PlaceT | None = None
        """Where it was placed last."""
        self.placed_at = 0.0
        self.avoids: tuple[PlaceT, ...] = ()
        """What has failed it: it does not go there again. What was only full is not among them."""

    def __lt__(self, other: "Work[PlaceT]") -> bool:
        """For heaps: the one that is next comes first."""
        if self.rank != other.rank:
            return self.rank < other.rank
        return self.sequence < other.sequence
