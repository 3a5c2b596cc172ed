"""Two fronts that get the same bytes: plain uvicorn, which is believed, and the router."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from router_http_echo import EchoEngine, Seen, app
from router_memory_loop import MemoryLoop, Wire
from router_server import backend, table_of
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.limits import Limits
from sagepool_router.protocol import InferenceProtocol

Ending = Literal["stays", "half_closes", "resets"]
"""What the client does when it has sent all."""

LIMITS: Final = Limits(
    header_s=300.0,
    upload_s=300.0,
    keepalive_s=300.0,
    linger_s=0.1,
    max_head_bytes=800,
    max_body_bytes=400,
    max_pipelined=2,
)
"""Nobody waits in vain here; sizes are small, so that they are met."""
MODEL: Final = "m"
_PORT: Final = 1000
_LONG_S: Final = 1.0
"""Longer than all answers and the lingering behind them take."""


def _config(protocol: type[asyncio.Protocol]) -> Config:
    config = Config(
        app, log_config=None, http=protocol, ws="none", access_log=False, timeout_keep_alive=900
    )
    config.load()
    return config


_UVICORN: Final = _config(HttpToolsProtocol)
_ROUTER: Final = _config(InferenceProtocol)


class Listener:
    """A client that only listens; a Peer."""

    def __init__(self) -> None:
        self.heard = b""

    def hear(self, data: bytes) -> None:
        self.heard += data

    def hung_up(self, *, is_reset: bool) -> None:
        pass


class _StrictWire(Wire):
    """Refuses what a socket would refuse."""

    has_ended = False

    def write_eof(self) -> None:
        self.has_ended = True

    def write(self, data: bytes) -> None:
        assert not self.has_ended, "written behind the end"
        super().write(data)


@dataclass(frozen=True)
class Outcome:
    """What a front made of a connection."""

    heard: bytes
    """By the client."""
    is_open: bool
    """For further requests."""
    seen: list[Seen] = field(default_factory=list)
    """By the app."""
    bodies: list[bytes] = field(default_factory=list)
    """Sent to the engine."""


async def ask_uvicorn(data: bytes) -> Outcome:
    """Send byte by byte and wait for each answer, so that nothing cuts into anything."""
    seen: list[Seen] = []
    client = Listener()
    protocol = HttpToolsProtocol(
        _UVICORN, ServerState(), {"seen": seen}, _loop=MemoryLoop.running()
    )
    wire = Wire(MemoryLoop.running(), protocol, client)
    for number in range(len(data)):
        if wire.is_closing():
            break
        wire.feed(data[number : number + 1])
        cycle = protocol.cycle
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            await _turn()
    await _turn()
    outcome = Outcome(client.heard, not wire.is_closing(), seen)
    wire.abort()
    await _turn()
    return outcome


async def ask_router(
    reads: Sequence[bytes], ending: Ending, *, delay_s: float, is_patient: bool
) -> Outcome:
    """Send in pieces.

    Args:
        reads: the pieces.
        ending: what the client does then.
        delay_s: how long the engine takes for each answer.
        is_patient: something happens between two pieces.
    """
    loop = MemoryLoop.running()
    dispatcher = Dispatcher(LIMITS, random=Random(1).random, clock=loop.time)
    dispatcher.swap(table_of(backend(_PORT, models=(MODEL,))))
    dispatcher.start()
    engine = EchoEngine(loop, _PORT, delay_s)
    seen: list[Seen] = []
    client = Listener()
    state = {"dispatcher": dispatcher, "seen": seen}
    protocol = InferenceProtocol(_ROUTER, ServerState(), state, _loop=loop)
    wire = _StrictWire(loop, protocol, client)
    for read in reads:
        wire.feed(read)
        if is_patient:
            await _turn(6 if len(reads) < 20 else 1)
    if ending == "stays":
        await asyncio.sleep(_LONG_S)
    is_open = not wire.is_closing()
    wire.feed_reset() if ending == "resets" else wire.feed_eof()
    await asyncio.sleep(_LONG_S)
    assert wire.is_closing(), "a connection of a client that has left is kept"
    assert not dispatcher.clients
    assert not dispatcher.exchanges
    assert not dispatcher.held_body_bytes
    assert not any(found.in_flight for found in dispatcher.snapshot())
    await dispatcher.close()
    return Outcome(client.heard, is_open, seen, engine.bodies)


async def _turn(times: int = 6) -> None:
    """Let happen what needs no time."""
    for _ in range(times):
        await asyncio.sleep(0)


class _Errors(logging.Handler):
    """What is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(f"{record.getMessage()}: {record.exc_info}")


@contextmanager
def no_errors_logged() -> Iterator[None]:
    errors = _Errors()
    loggers = [logging.getLogger(name) for name in ("sagepool_router", "uvicorn.error", "asyncio")]
    for logger in loggers:
        logger.addHandler(errors)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(errors)
    assert not errors.found
