"""Searches paragraphs by the similarity of their embeddings. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Vector: TypeAlias = Sequence[float]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the heading of the paragraph of docs/concepts.md that answers it."""

    text: str
    heading: str


QUESTIONS: Final = (
    Question(
        "Which instance is taken: the one with the fewest requests in flight?", "Least loaded"
    ),
    Question("Is an answer that broke off after its first byte sent again?", "Retry"),
    Question("Are engines restarted when the chart is upgraded?", "Upgrade"),
    Question("How do I stop all engines at night and keep the address?", "Suspend"),
    Question(
        "What does the router do when the API server cannot be reached?", "Outage of the API server"
    ),
)


def cosine_similarity(a: Vector, b: Vector) -> float:
    """The cosine of the angle between two vectors; 0 when one of them is zero.

    Raises:
        ValueError: they differ in length.
    """
    product = math.fsum(x * y for x, y in zip(a, b, strict=True))
    norms = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(y * y for y in b))
    return product / norms if norms else 0.0


def find_nearest(query: Vector, vectors: Sequence[Vector]) -> tuple[int, float]:
    """The index of the vector nearest to the query, and its similarity.

    Raises:
        ValueError: there are no vectors, or one has another length than the query.
    """
    similarities = [cosine_similarity(query, vector) for vector in vectors]
    best = max(range(len(similarities)), key=similarities.__getitem__)
    return best, similarities[best]
