"""The model beside what was measured: the same closed loops of 12 seconds, in simulated time."""

import random
from dataclasses import dataclass
from typing import Final, TypeAlias

from bench.figures import percentile
from bench.simulation.clock import Clock
from bench.simulation.costs import Costs
from bench.simulation.engines import Chat, ChatEngine, EmbeddingEngine, Texts
from bench.simulation.gpu import Gpu

PROMPT_TOKENS: Final = 520
"""400 words."""
OUTPUT_TOKENS: Final = 128
TEXT_TOKENS: Final = 260
"""200 words."""
_SECONDS: Final = 12.0
_SPREAD: Final = 6
"""Answers are longer or shorter by up to this. Of one length, all streams would end together and
prompts would come in waves for ever; in the measurement they drew apart."""


@dataclass(frozen=True, slots=True)
class Loop:
    """So many clients, each of which sends its next request when it has its answer."""

    chats: int = 0
    calls: int = 0
    texts: int = 32
    """In a call."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came out of a loop; NaN for what was not in it."""

    ttft_p50_ms: float
    ttft_p99_ms: float
    chats_per_s: float
    texts_per_s: float
    call_p50_ms: float


Range: TypeAlias = tuple[float, float]
"""The lowest and the highest of several loops."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured on an H100 with two vLLM 0.25 processes, 12 seconds a loop."""

    title: str
    loops: tuple[Loop, ...]
    ttft_p50_ms: Range | None = None
    ttft_p99_ms: Range | None = None
    chats_per_s: Range | None = None
    texts_per_s: Range | None = None
    call_p50_ms: Range | None = None


def _at(value: float) -> Range:
    return value, value


def _beside(chats: int, *calls: int) -> tuple[Loop, ...]:
    return tuple([Loop(chats, count) for count in calls])


MEASURED: Final = (
    Measured("1 call of 32 texts alone", (Loop(0, 1),), texts_per_s=_at(371)),
    Measured("4 calls alone", (Loop(0, 4),), texts_per_s=_at(736), call_p50_ms=_at(161)),
    Measured("16 calls alone", (Loop(0, 16),), texts_per_s=_at(676), call_p50_ms=_at(594)),
    Measured("8 streams alone", (Loop(8),), _at(33), _at(240), _at(8.9)),
    Measured("32 streams alone", (Loop(32),), _at(142), _at(1057), _at(19.0)),
    Measured("64 streams alone", (Loop(64),), _at(125), _at(1257), _at(30.4)),
    Measured(
        "8 streams + 1 to 16 calls",
        _beside(8, 1, 2, 4, 8, 16),
        (36, 277),
        (50, 414),
        (6.1, 7.3),
        (318, 745),
    ),
    Measured(
        "32 streams + 1 to 8 calls",
        _beside(32, 1, 2, 4, 8),
        (128, 167),
        (1202, 1467),
        (15.7, 22.5),
        (285, 490),
    ),
    Measured("32 streams + 16 calls", _beside(32, 16), _at(780), _at(1833), _at(11.5), _at(464)),
    Measured(
        "64 streams + 1 to 16 calls",
        _beside(64, 1, 2, 4, 8, 16),
        (235, 1476),
        (2320, 3539),
        (14.5, 22.5),
        (288, 484),
    ),
    Measured(
        "32 streams + 32 to 256 one-text calls",
        tuple([Loop(32, count, texts=1) for count in (32, 128, 256)]),
        (111, 694),
        (1156, 1695),
        (10.4, 20.2),
        (322, 350),
    ),
)


class _Run:
    """One loop in simulated time."""

    def __init__(self, loop: Loop, costs: Costs, seed: int) -> None:
        self.clock = Clock()
        self._random = random.Random(seed)
        self._loop = loop
        gpu = Gpu(self.clock, costs)
        self._chat_engine = ChatEngine(self.clock, costs, gpu)
        self._embedding_engine = EmbeddingEngine(self.clock, costs, gpu)
        self.first_tokens: list[float] = []
        self.calls: list[float] = []
        self.chats = 0
        for _ in range(loop.chats):
            self._chat()
        for _ in range(loop.calls):
            self._call()

    def _chat(self) -> None:
        began = self.clock.now

        def first() -> None:
            self.first_tokens.append(self.clock.now - began)

        def end() -> None:
            self.chats += 1
            self._chat()

        output_tokens = OUTPUT_TOKENS + self._random.randint(-_SPREAD, _SPREAD)
        self._chat_engine.accept(Chat(PROMPT_TOKENS, output_tokens, first, end))

    def _call(self) -> None:
        began = self.clock.now

        def end() -> None:
            self.calls.append(self.clock.now - began)
            self._call()

        texts = self._loop.texts
        self._embedding_engine.accept(Texts(texts, texts * TEXT_TOKENS, end))


def measure(loop: Loop, costs: Costs, seed: int = 1) -> Reading:
    """Run a loop for as long as the measurement did."""
    run = _Run(loop, costs, seed)
    run.clock.run(until=lambda: run.clock.now >= _SECONDS)
    return Reading(
        ttft_p50_ms=1000 * percentile(run.first_tokens, 0.5),
        ttft_p99_ms=1000 * percentile(run.first_tokens, 0.99),
        chats_per_s=run.chats / _SECONDS,
        texts_per_s=len(run.calls) * loop.texts / _SECONDS,
        call_p50_ms=1000 * percentile(run.calls, 0.5),
    )


def model(row: Measured, costs: Costs) -> Measured:
    """The same row from the model."""
    readings = [measure(loop, costs) for loop in row.loops]

    def spread(known: Range | None, values: list[float]) -> Range | None:
        return (min(values), max(values)) if known is not None else None

    return Measured(
        row.title,
        row.loops,
        spread(row.ttft_p50_ms, [reading.ttft_p50_ms for reading in readings]),
        spread(row.ttft_p99_ms, [reading.ttft_p99_ms for reading in readings]),
        spread(row.chats_per_s, [reading.chats_per_s for reading in readings]),
        spread(row.texts_per_s, [reading.texts_per_s for reading in readings]),
        spread(row.call_p50_ms, [reading.call_p50_ms for reading in readings]),
    )
