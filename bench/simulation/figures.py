"""What a run came to, by class and by priority. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.figures import percentile
from bench.simulation.traffic import PRIORITIES, Request

TTFT_SLO_S: Final = 1.0
EMBEDDING_SLO_S: Final = 0.2
TTFT_MARGIN: Final = 0.05
"""Between two seeds the TTFT p99 of the same router differs by about as much."""
TEXTS_MARGIN: Final = 0.01
"""Who has room answers all; what was under way at the last arrival differs by less."""


@dataclass(frozen=True, slots=True)
class Class:
    """Of the requests of one kind; percentiles count what was not answered as infinitely late."""

    offered_per_s: float
    done_per_s: float
    unanswered: float
    """The share that was refused or waited too long."""
    goodput: float
    """The share that was answered within its SLO."""
    by_priority: tuple[float, ...]
    """The same of each priority, the most urgent first."""
    duration_p50_ms: float
    duration_p99_ms: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a run."""

    chat: Class
    ttft_p50_ms: float
    ttft_p99_ms: float
    embedding: Class
    texts_per_s: float
    """Of requests that were answered while others still arrived."""


def summarise(runs: Sequence[Sequence[Request]], seconds: float) -> Figures:
    """The figures of all requests that arrived in runs of so many seconds each."""
    chats = [request for run in runs for request in run if request.kind == "llm"]
    embeddings = [request for run in runs for request in run if request.kind == "embedding"]
    ttfts = [request.ttft_s for request in chats]
    done = sum(r.texts for r in embeddings if _is_done(r, seconds))
    return Figures(
        chat=_class(chats, seconds, len(runs)),
        ttft_p50_ms=1000 * percentile(ttfts, 0.5),
        ttft_p99_ms=1000 * percentile(ttfts, 0.99),
        embedding=_class(embeddings, seconds, len(runs)),
        texts_per_s=done / seconds / len(runs),
    )


def _is_done(request: Request, seconds: float) -> bool:
    ended_at = request.ended_at
    return request.outcome == "answered" and ended_at is not None and ended_at <= seconds


def _is_good(request: Request) -> bool:
    if request.kind == "llm":
        return request.outcome == "answered" and request.ttft_s <= TTFT_SLO_S
    return request.duration_s <= EMBEDDING_SLO_S


def _class(requests: Sequence[Request], seconds: float, runs: int) -> Class:
    durations = [request.duration_s for request in requests]
    by_priority = tuple(
        _share([_is_good(r) for r in requests if r.priority == priority])
        for priority, _ in PRIORITIES
    )
    return Class(
        offered_per_s=len(requests) / seconds / runs,
        done_per_s=sum([_is_done(request, seconds) for request in requests]) / seconds / runs,
        unanswered=_share([request.outcome != "answered" for request in requests]),
        goodput=_share([_is_good(request) for request in requests]),
        by_priority=by_priority,
        duration_p50_ms=1000 * percentile(durations, 0.5),
        duration_p99_ms=1000 * percentile(durations, 0.99),
    )


def _share(claims: Sequence[bool]) -> float:
    return sum(claims) / len(claims) if claims else math.nan


def pareto_front(figures: Mapping[str, Figures]) -> list[str]:
    """The names that no other beats: chat's TTFT p99 not longer and texts a second not fewer.

    One of the two has to be better by more than chance: within the margins both are equal.
    """
    return [
        name
        for name, own in figures.items()
        if not any(_beats(other, own) for other in figures.values())
    ]


def _beats(one: Figures, other: Figures) -> bool:
    if one.ttft_p99_ms > other.ttft_p99_ms or one.texts_per_s < other.texts_per_s:
        return False
    is_sooner = one.ttft_p99_ms < (1 - TTFT_MARGIN) * other.ttft_p99_ms
    return is_sooner or one.texts_per_s > (1 + TEXTS_MARGIN) * other.texts_per_s
