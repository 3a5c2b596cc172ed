"""What the client in the cluster says, one JSON object a line of its pod's log.

A log hands over whole lines, so even an answer that streams comes as lines; the half outside the
cluster draws them.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)


class Listed(_Event):
    """The models that the endpoint offers."""

    event: Literal["listed"] = "listed"
    models: tuple[str, ...]


class Chunk(_Event):
    """A piece of the streamed answer."""

    event: Literal["chunk"] = "chunk"
    text: str


class Answered(_Event):
    """The streamed answer has ended."""

    event: Literal["answered"] = "answered"
    model: str
    chunks: int
    first_token_s: float
    latency_s: float
    instance: str


class Embedded(_Event):
    """The text's paragraphs have become vectors."""

    event: Literal["embedded"] = "embedded"
    paragraphs: int
    dimension: int
    latency_s: float


class Found(_Event):
    """The paragraph nearest to a question."""

    event: Literal["found"] = "found"
    question: str
    heading: str
    expected: str
    excerpt: str
    similarity: float


class Flowing(_Event):
    """Every client has had its first answer."""

    event: Literal["flowing"] = "flowing"
    clients: int


class Progressed(_Event):
    """How the traffic goes."""

    event: Literal["progressed"] = "progressed"
    elapsed_s: float
    requests: int
    failures: int
    answered: dict[str, int]
    """Requests by the instance that answered."""


class KindFigures(_Event):
    """One kind of request in figures; None where nothing succeeded or nothing streams."""

    kind: str
    requests: int
    failures: int
    p50_s: float | None
    p99_s: float | None
    first_token_p50_s: float | None
    first_token_p99_s: float | None


class Finished(_Event):
    """What came of the traffic."""

    event: Literal["finished"] = "finished"
    elapsed_s: float
    kinds: tuple[KindFigures, ...]
    answered: dict[str, dict[str, int]]
    """Requests by the instance that answered, and there by kind."""
    reasons: dict[str, int]
    """Failed requests by their reason."""


class Stopped(_Event):
    """The client cannot go on."""

    event: Literal["stopped"] = "stopped"
    message: str


Event: TypeAlias = Annotated[
    Listed | Chunk | Answered | Embedded | Found | Flowing | Progressed | Finished | Stopped,
    Field(discriminator="event"),
]


def read_event(line: str) -> Event | None:
    """The event in a line of the log, or None: a traceback, say, is none."""
    try:
        # Built on each call: a line is rare enough, and nothing is kept at module level.
        event: Event = TypeAdapter[Event](Event).validate_json(line)
    except ValidationError:
        return None
    return event
