"""What the router does for a request, counted instead of timed: bytecodes and Python calls.

Requests go through the real protocol, dispatcher and scheduler; transports only keep what was
written, and engines say what they are told to. The counts do not depend on the machine, nor on
what else runs there.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

import uvicorn
from uvicorn.server import ServerState

import sagepool_router
from router_server import backend, table_of
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.limits import Limits
from sagepool_router.protocol import InferenceProtocol
from sagepool_router.upstream import UpstreamConnection
from simulator_clock import ManualClock

_OURS: Final = str(Path(sagepool_router.__file__).parent)
_LISTED: Final = 25
_FIELDS: Final = (
    b"host: router\r\ncontent-type: application/json\r\naccept: */*\r\nuser-agent: x\r\n"
)


class Cost(NamedTuple):
    """Of one step, on average."""

    bytecodes: float
    calls: float
    dearest: str = ""
    """The functions that take most of it, a line each: bytecodes, calls, name."""


class Ends(asyncio.Transport):
    """Where the router writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes) -> None:  # type: ignore[override]  # it writes nothing but bytes
        self.written = data

    def abort(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class RequestPath:
    """A router with connections to one client and four engines of each kind; in a running loop."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.dispatcher = Dispatcher(
            Limits(), random=random.Random(1).random, clock=lambda: self.clock.now
        )
        numbers = range(1, 5)
        self.dispatcher.swap(
            table_of(
                *(backend(i, instance=f"chat-{i}") for i in numbers),
                *(
                    backend(10 + i, instance=f"text-{i}", role="embedding", models=("embedder",))
                    for i in numbers
                ),
            )
        )
        config = uvicorn.Config(
            _no_app, http="httptools", interface="asgi3", lifespan="off", log_config=None
        )
        config.load()
        self.client = Ends()
        self._protocol = InferenceProtocol(config, ServerState(), {"dispatcher": self.dispatcher})
        self._protocol.connection_made(self.client)
        self._engines: dict[Ends, UpstreamConnection] = {}
        for found in self.dispatcher.fleet.backends:
            connection, ends = UpstreamConnection(found.pool), Ends()
            connection.connection_made(ends)
            found.pool.put(connection)
            self._engines[ends] = connection

    def ask(self, path: bytes, **body: object) -> UpstreamConnection:
        """Send a request; returns the connection of the engine that has it now."""
        text = json.dumps(body).encode()
        head = b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n" % (path, _FIELDS, len(text))
        self._protocol.data_received(head + text)
        for ends, connection in self._engines.items():
            if ends.written:
                ends.written = b""
                return connection
        raise AssertionError(f"no engine was asked: {self.client.written!r}")


async def _no_app(scope: object, receive: object, send: object) -> None:
    raise AssertionError("the app is not asked")


def count(step: Callable[[], None], times: int = 20) -> Cost:
    """The bytecodes and calls in the router's own modules of a step."""
    bytecodes: Counter[CodeType] = Counter()
    calls: Counter[CodeType] = Counter()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        if event == "opcode":
            bytecodes[code] += 1
        elif event == "call":
            if not code.co_filename.startswith(_OURS):
                return None
            calls[code] += 1
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        return trace

    for _ in range(3):
        step()  # what is made once is made now
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for _ in range(times):
            step()
    finally:
        sys.settrace(before)
    return Cost(
        bytecodes.total() / times,
        calls.total() / times,
        "\n".join(
            f"{number / times:8.1f} {calls[code] / times:6.1f}  {code.co_qualname}"
            for code, number in bytecodes.most_common(_LISTED)
        ),
    )
