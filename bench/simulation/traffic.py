"""Requests that arrive on their own, whatever has become of those before them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from bench.simulation.costs import Costs
from sagepool_crds.pool import Role

Outcome: TypeAlias = Literal["answered", "refused", "expired"]

PROMPT_TOKENS: Final = 520
"""On average; lengths are log-normal."""
OUTPUT_TOKENS: Final = 128
"""On average; lengths are exponential."""
TEXT_TOKENS: Final = 260
_SIGMA: Final = 0.5
_LONGEST: Final = 4096

TEXTS: Final = ((1, 0.5), (8, 0.25), (32, 0.15), (100, 0.1))
"""Texts in a request, and how often: questions, and documents that are taken in."""
MEAN_TEXTS: Final = sum(texts * share for texts, share in TEXTS)

PRIORITIES: Final = ((0, 0.05), (1, 0.15), (2, 0.6), (3, 0.15), (4, 0.05))
"""Critical to background, and how often."""
PRIORITY_NAMES: Final = ("critical", "high", "normal", "low", "background")

_PERIOD_S: Final = 5.0
_BURST_S: Final = 1.0
_BURST: Final = 3.0
_LULL: Final = 0.5


@dataclass(frozen=True, slots=True)
class Mix:
    """How requests are shared between the kinds, and how they come."""

    name: str
    title: str
    chat_share: float
    is_bursty: bool = False


MIXES: Final = (
    Mix("50/50", "half of the requests are chats", 0.5),
    Mix("80/20", "four of five requests are chats", 0.8),
    Mix("20/80", "one of five requests is a chat", 0.2),
    Mix("bursts", "half are chats; one second in five has three times the average rate", 0.5, True),
)


class Request:
    """One request and what became of it."""

    __slots__ = (
        "affinity",
        "arrived_at",
        "ended_at",
        "first_token_at",
        "kind",
        "outcome",
        "output_tokens",
        "priority",
        "prompt",
        "texts",
        "texts_left",
        "tokens",
    )

    def __init__(self, kind: Role, arrived_at: float, priority: int, tokens: int) -> None:
        self.kind: Role = kind
        self.arrived_at = arrived_at
        self.priority = priority
        self.tokens = tokens
        """Of the prompt, or of each text."""
        self.affinity: int | None = None
        """What it is to be placed by, besides load."""
        self.prompt: tuple[int, ...] = ()
        """Its tokens, where an engine may know them."""
        self.output_tokens = 0
        self.texts = 0
        self.texts_left = 0
        self.first_token_at: float | None = None
        self.ended_at: float | None = None
        self.outcome: Outcome | None = None

    def end(self, outcome: Outcome, now: float) -> None:
        """It has come to its end, as every request does once."""
        if self.outcome is not None:
            raise RuntimeError(f"a request that was {self.outcome} cannot be {outcome} as well")
        self.outcome = outcome
        self.ended_at = now

    @property
    def ttft_s(self) -> float:
        """From its arrival to its first token; infinite without an answer."""
        if self.first_token_at is None:
            return float("inf")
        return self.first_token_at - self.arrived_at

    @property
    def duration_s(self) -> float:
        """From its arrival to the end of its answer; infinite without one."""
        if self.ended_at is None or self.outcome != "answered":
            return float("inf")
        return self.ended_at - self.arrived_at


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a second."""

    chats: float
    embeddings: float


def offered(
    mix: Mix, costs: Costs, load: float, capacity: Callable[[float, float], float]
) -> Rates:
    """The rates at which a mix loads a pool so much.

    Args:
        mix: shares of the kinds.
        costs: of the engines.
        load: 1 is what the engines could do if each kind had its GPUs for itself.
        capacity: what a pool is loaded by so many GPU-seconds a second of chat and of embeddings.
    """
    chat_s = mix.chat_share / costs.chat_capacity(PROMPT_TOKENS, OUTPUT_TOKENS)
    texts_s = (1 - mix.chat_share) * MEAN_TEXTS / costs.embedding_capacity()
    rate = load / capacity(chat_s, texts_s)
    return Rates(mix.chat_share * rate, (1 - mix.chat_share) * rate)


def build_requests(mix: Mix, rates: Rates, seconds: float, seed: int) -> list[Request]:
    """All requests of a run in the order of their arrival.

    The two kinds are drawn apart: chats are the same, whatever comes beside them.
    """
    chats = _Source(random.Random(f"chats {seed}"), mix).requests("llm", rates.chats, seconds)
    texts = _Source(random.Random(f"embeddings {seed}"), mix).requests(
        "embedding", rates.embeddings, seconds
    )
    return sorted((*chats, *texts), key=lambda request: request.arrived_at)


class _Source:
    """Requests of one kind."""

    def __init__(self, source: random.Random, mix: Mix) -> None:
        self._random = source
        self._mix = mix

    def requests(self, kind: Role, rate: float, seconds: float) -> list[Request]:
        found: list[Request] = []
        if not rate:
            return found
        highest = rate * (_BURST if self._mix.is_bursty else 1.0)
        at = self._random.expovariate(highest)
        while at < seconds:
            # thinning (Lewis and Shedler 1979): of arrivals at the highest rate a part is real
            if self._random.random() * highest < rate * self._factor(at):
                found.append(self._request(kind, at))
            at += self._random.expovariate(highest)
        return found

    def _factor(self, at: float) -> float:
        if not self._mix.is_bursty:
            return 1.0
        return _BURST if at % _PERIOD_S < _BURST_S else _LULL

    def _request(self, kind: Role, at: float) -> Request:
        priority = self._drawn(PRIORITIES)
        if kind == "llm":
            request = Request(kind, at, priority, self._length(PROMPT_TOKENS))
            output = round(self._random.expovariate(1 / OUTPUT_TOKENS))
            request.output_tokens = min(_LONGEST, max(1, output))
        else:
            request = Request(kind, at, priority, self._length(TEXT_TOKENS))
            request.texts = request.texts_left = self._drawn(TEXTS)
        return request

    def _length(self, mean: float) -> int:
        factor = self._random.lognormvariate(-(_SIGMA**2) / 2, _SIGMA)
        return min(_LONGEST, max(1, round(mean * factor)))

    def _drawn(self, shares: tuple[tuple[int, float], ...]) -> int:
        values = [value for value, _ in shares]
        return self._random.choices(values, [share for _, share in shares])[0]
