"""What a route is given, and what it may leave behind."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sagepool_simulator.connection import Connection, Work
from sagepool_simulator.engine import EmbeddingCall, Engine, Sequence
from sagepool_simulator.faults import Fault


@dataclass(slots=True)
class Call:
    """One request to a route."""

    body: bytes
    connection: Connection
    fault: Fault | None
    """What goes wrong with the answer."""


Route: TypeAlias = Callable[[Call], Work | None]
"""Answers, or returns what will answer later. Raises ApiError and msgspec's errors."""


class InEngine:
    """Work in the engine that is given up when the client leaves."""

    __slots__ = ("_engine", "_parts")

    def __init__(self, engine: Engine, *parts: Sequence | EmbeddingCall) -> None:
        self._engine = engine
        self._parts = parts

    def cancel(self) -> None:
        """The client has left."""
        for part in self._parts:
            self._engine.abort(part)


class Stalled:
    """A request for which nothing is done until its time is over."""

    __slots__ = ("_serve", "_timer", "_work")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, serve: Callable[[], Work | None]
    ) -> None:
        self._serve = serve
        self._work: Work | None = None
        self._timer = loop.call_later(seconds, self._go_on)

    def cancel(self) -> None:
        """The client has left."""
        self._timer.cancel()
        if self._work is not None:
            self._work.cancel()

    def _go_on(self) -> None:
        self._work = self._serve()
