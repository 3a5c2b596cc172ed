"""Routers to compare with: every request goes to an engine at once, alone, and waits inside it."""

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Generic, Protocol, TypeVar

from bench.simulation.clock import Clock
from bench.simulation.engines import Chat, ChatEngine, EmbeddingEngine, Texts
from bench.simulation.pools import EngineAt
from bench.simulation.traffic import Request


class Router(Protocol):
    """What requests are given to."""

    def submit(self, request: Request) -> None:
        """A request has arrived: see to it that it ends."""


EngineT = TypeVar("EngineT", ChatEngine, EmbeddingEngine)


class _Counted(Generic[EngineT]):
    """An engine and the requests that it has."""

    __slots__ = ("engine", "in_flight")

    def __init__(self, engine: EngineT) -> None:
        self.engine: EngineT = engine
        self.in_flight = 0


def _in_turn(engines: Sequence[_Counted[EngineT]]) -> Callable[[], _Counted[EngineT]]:
    return cycle(engines).__next__


def _least_loaded(
    engines: Sequence[_Counted[EngineT]], random: Callable[[], float]
) -> Callable[[], _Counted[EngineT]]:
    return lambda: min(engines, key=lambda place: (place.in_flight, random()))


class PlainRouter:
    """Round robin or least loaded, without a queue, limits, or merging.

    Args:
        engines: of the pool.
        clock: simulated.
        random: uniform in [0, 1): chooses among equals; None: each in turn, whatever it has.
    """

    def __init__(
        self, engines: Sequence[EngineAt], clock: Clock, random: Callable[[], float] | None
    ) -> None:
        self._clock = clock
        chat = [_Counted(e.engine) for e in engines if isinstance(e.engine, ChatEngine)]
        embedding = [_Counted(e.engine) for e in engines if isinstance(e.engine, EmbeddingEngine)]
        if random is None:
            self._next_chat, self._next_embedding = _in_turn(chat), _in_turn(embedding)
        else:
            self._next_chat = _least_loaded(chat, random)
            self._next_embedding = _least_loaded(embedding, random)

    def submit(self, request: Request) -> None:
        """Send it."""
        if request.kind == "llm":
            self._send_chat(request)
        else:
            self._send_texts(request)

    def _send_chat(self, request: Request) -> None:
        place = self._next_chat()
        place.in_flight += 1

        def first() -> None:
            request.first_token_at = self._clock.now

        def end() -> None:
            place.in_flight -= 1
            request.end("answered", self._clock.now)

        place.engine.accept(Chat(request.tokens, request.output_tokens, first, end))

    def _send_texts(self, request: Request) -> None:
        place = self._next_embedding()
        place.in_flight += 1

        def end() -> None:
            place.in_flight -= 1
            request.texts_left = 0
            request.end("answered", self._clock.now)

        place.engine.accept(Texts(request.texts, request.texts * request.tokens, end))
