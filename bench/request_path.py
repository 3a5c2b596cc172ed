"""`python -m bench.request_path`: CPU time of a request in the router's process, without a kernel.

Requests go through the real protocol, classifier, scheduler and accounts with everything on (the
hybrid policy, API keys with limits, prefix affinity, GPUs that chat and embeddings share, merging,
decisions, metrics); both ends are transports that keep what is written. The same bytes go through
a bare relay to as many engines, in turns with the router: the difference is all that the router
does for a request beside passing it on. Scheduling is the greater part of it.

64 requests are under way at any time; the oldest is answered, and the next one comes.
"""

import asyncio
import gc
import itertools
import json
import random
import runpy
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import uvicorn
from uvicorn.server import ServerState

from bench.errors import LoadFailed
from sagepool_crds.pool import Role
from sagepool_router.auth.source import KeySource
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.limits import Limits
from sagepool_router.protocol import InferenceProtocol
from sagepool_router.table import Backend, ModelRoute, RoutingTable
from sagepool_router.upstream import UpstreamConnection

SIZES: Final = (10, 100, 1000)
"""Instances; each answers both kinds on one GPU."""
UNDER_WAY: Final = 64
PREFIXES: Final = 64
"""Prompts that begin alike, the first ones far more often than the last."""
_REQUESTS: Final = 500
_ROUNDS: Final = 40
_BARE: Final = Path(__file__).parent / "baselines" / "bare.py"
_KEY: Final = "bench-key-0123456789"
_KEYS: Final = {
    "key": _KEY,
    "requestsPerMinute": 10**9,
    "tokensPerMinute": 10**12,
    "maxConcurrency": 10**6,
}
_TEXT: Final = "x" * 120
_ANSWER: Final = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}"


class Wire(asyncio.Transport):
    """One end of a connection that only keeps what was written last."""

    def __init__(self, engine: "Callable[[Wire], None] | None" = None) -> None:
        super().__init__()
        self.written = b""
        self._engine = engine

    def write(self, data: bytes) -> None:  # type: ignore[override]  # the router writes bytes only
        self.written = data
        if self._engine is not None:
            self._engine(self)

    def abort(self) -> None:
        raise AssertionError(f"cut: {self.written!r}")

    def close(self) -> None:
        """uvicorn closes what has been idle for seconds; nothing comes on it any more."""

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""


class Reader(Protocol):
    """Whoever is called with what comes in."""

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""


class Workload(NamedTuple):
    """What is asked and answered."""

    name: str
    requests: Sequence[bytes]
    answer: Callable[[bytes], bytes]
    """Of an engine, to what was sent to it."""


class Bed:
    """A relay between clients and engines, all in memory."""

    def __init__(self) -> None:
        self.config = uvicorn.Config(
            _no_app, http="httptools", interface="asgi3", lifespan="off", log_config=None
        )
        self.config.load()
        self.clients: deque[Reader] = deque()
        self.answered: list[Wire] = []
        """Clients' ends of their connections, with the last answers on them."""
        self.asked: deque[Wire] = deque()
        """Engines' connections with a request on them, the oldest first."""
        self.reader_of: dict[Wire, Reader] = {}

    def add_client(self, connection: Any) -> None:
        wire = Wire()
        connection.connection_made(wire)
        self.answered.append(wire)
        self.clients.append(connection)

    def add_engine(self, connection: Any) -> None:
        wire = Wire(self.asked.append)
        connection.connection_made(wire)
        self.reader_of[wire] = connection

    def ask(self, request: bytes) -> None:
        """The client that has waited longest sends a request."""
        client = self.clients.popleft()
        self.clients.append(client)
        client.data_received(request)

    def answer(self, workload: Workload) -> None:
        """The oldest request under way is answered."""
        wire = self.asked.popleft()
        self.reader_of[wire].data_received(workload.answer(wire.written))


async def _no_app(scope: object, receive: object, send: object) -> None:
    raise AssertionError("the app is not asked")


class RouterBed(Bed):
    """The router over so many instances."""

    def __init__(self, size: int, keys: KeySource) -> None:
        super().__init__()
        dispatcher = Dispatcher(Limits(), random=random.Random(1).random, keys=keys)
        dispatcher.swap(_table(size))
        for _ in range(UNDER_WAY):
            state = {"dispatcher": dispatcher}
            self.add_client(InferenceProtocol(self.config, ServerState(), state))
        for found in dispatcher.fleet.backends:
            for _ in range(_connections_of(size)):
                connection = UpstreamConnection(found.pool)
                self.add_engine(connection)
                found.pool.put(connection)


class BareBed(Bed):
    """The relay without a router's work, to so many engines."""

    def __init__(self, size: int) -> None:
        super().__init__()
        bare = runpy.run_path(str(_BARE))
        pools = [bare["Pool"](0) for _ in range(size)]
        protocol = bare["BareProtocol"]
        protocol.pools = itertools.cycle(pools)
        for _ in range(UNDER_WAY):
            self.add_client(protocol(self.config, ServerState(), {}))
        for pool in pools:
            for _ in range(_connections_of(size)):
                connection = bare["EngineConnection"](pool)
                self.add_engine(connection)
                pool.put(connection)


def _connections_of(size: int) -> int:
    """How many an engine has, of so many engines: enough that nobody has to open one."""
    return max(2, 4 * UNDER_WAY // size)


def _table(size: int) -> RoutingTable:
    kinds: tuple[tuple[Role, str, int], ...] = (("llm", "chat", 1), ("embedding", "embedder", 2))
    chats, texts = (
        tuple(
            Backend(
                instance=f"engine-{number}",
                uid=f"uid-{number}",
                role=role,
                engine="vllm",
                scheme="http",
                host="127.0.0.1",
                port=port,
                prefix="",
                models=(model,),
                limit=256,
                device=f"gpu-{number}",
            )
            for number in range(size)
        )
        for role, model, port in kinds
    )
    return RoutingTable(
        version=1,
        pool="bench",
        models={
            "chat": ModelRoute("chat", "llm", chats, created=1),
            "embedder": ModelRoute("embedder", "embedding", texts, created=1),
        },
        asks_for_keys=True,
    )


def _request(path: str, body: object) -> bytes:
    text = json.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\naccept: */*\r\nuser-agent: bench\r\n"
        f"authorization: Bearer {_KEY}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(text)}\r\n\r\n{text}"
    ).encode()


def _answer(body: object) -> bytes:
    text = json.dumps(body)
    return _ANSWER.format(len(text), text).encode()


def _chat() -> Workload:
    rng = random.Random(3)
    prefixes = [f"{number:03}".ljust(300, "x") for number in range(PREFIXES)]
    requests = [
        _request(
            "/v1/chat/completions",
            {
                "model": "chat",
                "max_tokens": 64,
                "messages": [
                    {"role": "system", "content": prefixes[int(PREFIXES * rng.random() ** 3)]},
                    {"role": "user", "content": f"{number}".ljust(200, "y")},
                ],
            },
        )
        for number in range(_REQUESTS)
    ]
    usage = {"prompt_tokens": 130, "completion_tokens": 64, "total_tokens": 194}
    answer = _answer({"choices": [{"message": {"content": "z" * 256}}], "usage": usage})
    return Workload("chat", requests, lambda _: answer)


def _embedding() -> Workload:
    request = _request("/v1/embeddings", {"model": "embedder", "input": _TEXT})
    answers = [
        _answer(
            {
                "object": "list",
                "model": "embedder",
                "data": [{"index": i, "embedding": [0.5] * 8} for i in range(texts)],
                "usage": {"prompt_tokens": 30 * texts, "total_tokens": 30 * texts},
            }
        )
        for texts in range(UNDER_WAY + 1)
    ]
    text = _TEXT.encode()
    return Workload("embedded text", [request] * _REQUESTS, lambda call: answers[call.count(text)])


def run_round(bed: Bed, workload: Workload) -> float:
    """CPU microseconds a request.

    Raises:
        LoadFailed: the last answer that a client has is no success.
    """
    gc.collect()
    began = time.process_time()
    for begun, request in enumerate(workload.requests):
        bed.ask(request)
        # of calls that carry several requests fewer are under way
        while len(bed.asked) >= UNDER_WAY or (bed.asked and begun % UNDER_WAY == 0):
            bed.answer(workload)
    while bed.asked:
        bed.answer(workload)
    took_s = time.process_time() - began
    for wire in bed.answered:
        if not wire.written.startswith(b"HTTP/1.1 200 "):
            raise LoadFailed(f"{workload.name}: answered {wire.written!r}")
    return took_s / len(workload.requests) * 1e6


def measure(beds: Mapping[str, Bed], workload: Workload) -> dict[str, float]:
    """CPU microseconds a request through each bed, in rounds that take turns; the best of each.

    The first round is left out: it makes what is made once.
    """
    for bed in beds.values():
        run_round(bed, workload)
    gc.collect()
    gc.freeze()  # a collection before a round must not drive the instances out of the caches
    rounds = [[run_round(bed, workload) for bed in beds.values()] for _ in range(_ROUNDS)]
    return dict(zip(beds, map(min, zip(*rounds, strict=True)), strict=True))


async def _measure_all() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bench").write_text(json.dumps(_KEYS))
        keys = KeySource(Path(folder))
        await keys.refresh()
        print(f"{'CPU us a request; instances':40}" + "".join(f"{size:9}" for size in SIZES))
        for workload in (_chat(), _embedding()):
            rows: dict[str, list[float]] = {"whole": [], "bare relay": [], "added": []}
            for size in SIZES:
                found = measure(
                    {"whole": RouterBed(size, keys), "bare relay": BareBed(size)}, workload
                )
                found["added"] = found["whole"] - found["bare relay"]
                for name, row in rows.items():
                    row.append(found[name])
            for name, row in rows.items():
                print(f"{workload.name + ', ' + name:40}" + "".join(f"{us:9.1f}" for us in row))


if __name__ == "__main__":
    asyncio.run(_measure_all())
