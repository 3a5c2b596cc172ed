"""An engine that behaves as it is told: well, badly, slowly, or not at all.

Behaviours are coroutines by name. An engine has one behaviour for all requests, or takes the
request's model as the name of the behaviour.
"""

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

ANSWER = json.dumps(
    {
        "id": "x",
        "choices": [{"message": {"content": "hello"}}],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 1},
            "total_tokens": 5,
        },
    }
).encode()
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
BIG_CHUNK = 65536
BIG_CHUNKS = 1600


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: object) -> bytes:
    return chunk(b"data: " + json.dumps(data).encode() + b"\n\n")


def answer(body: bytes = ANSWER, status: str = "200 OK", extra: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{extra}\r\n"
    )
    return head.encode() + body


@dataclass
class Received:
    """A request as the engine got it."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int = 0
    """The number of the connection that it came on."""


@dataclass
class Call:
    """What a behaviour works with."""

    engine: "Engine"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: Received

    @property
    def fields(self) -> dict[str, object]:
        return json.loads(self.request.body)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def pause(self, seconds: float = 0.05) -> None:
        """Let the router read what was written as a read of its own."""
        await asyncio.sleep(seconds)

    async def wait_for_close(self) -> None:
        """Say nothing until the router hangs up."""
        self.engine.silences += 1
        try:
            with suppress(ConnectionError):
                if await self.reader.read(1):
                    raise AssertionError("the router said more")
        finally:
            self.engine.silences -= 1
        self.engine.closed_by_peer += 1
        raise ConnectionResetError

    def close(self) -> None:
        self.writer.close()
        raise ConnectionResetError

    def reset(self) -> None:
        """Close so that the peer gets ECONNRESET."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


Behaviour = Callable[[Call], Awaitable[None]]
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(function: Behaviour) -> Behaviour:
    BEHAVIOURS[function.__name__] = function
    return function


@dataclass
class Engine:
    """A running engine; requests and what happened to connections are kept."""

    behaviour: str | None
    port: int = 0
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    closed_by_peer: int = 0
    silences: int = 0
    """Requests on which it says nothing more until the router hangs up."""
    bytes_sent: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    loop: asyncio.AbstractEventLoop | None = None
    released: asyncio.Event = field(default_factory=asyncio.Event)
    metrics: str = ""
    """Its page of metrics; empty: it has none."""

    @property
    def open_connections(self) -> int:
        return len(self.writers)

    def is_held_back(self) -> bool:
        """A connection takes no more bytes."""
        return any(writer.transport.get_write_buffer_size() for writer in tuple(self.writers))

    def let_go(self) -> None:
        """Behaviours that are held go on."""
        self._call(self.released.set)

    def hold(self) -> None:
        """Behaviours are held from now on."""
        self._call(self.released.clear)

    def drop_connections(self) -> None:
        """Break all connections, as a dying process does."""
        self._call(lambda: [writer.transport.abort() for writer in self.writers])

    def _call(self, function: Callable[[], object]) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(function)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.writers.add(writer)
        try:
            while True:
                request = await _read(reader)
                if request.path == "/metrics":  # the router asks busy engines how they are
                    page = self.metrics.encode()
                    writer.write(answer(page) if page else answer(b"{}", "404 Not Found"))
                    continue
                request.connection = number
                self.requests.append(request)
                name = self.behaviour or json.loads(request.body)["model"]
                await BEHAVIOURS[name](Call(self, reader, writer, request))
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        except ConnectionError:
            pass
        finally:
            self.writers.discard(writer)
            with suppress(Exception):
                writer.close()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.strip().split("\r\n")
    headers = {n.lower(): v.strip() for n, _, v in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(line.split(" ")[1], headers, body)


@contextmanager
def serve_engine(
    behaviour: str | None = None, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Engine]:
    """Run an engine until the block ends; its connections are reset then."""
    engine = Engine(behaviour)
    started: Future[asyncio.AbstractEventLoop] = Future()
    stop = asyncio.Event()

    async def main() -> None:
        tasks: set[asyncio.Task[None]] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            with suppress(asyncio.CancelledError):
                await engine.serve(reader, writer)

        server = await asyncio.start_server(handle, "127.0.0.1", port, ssl=tls)
        engine.port = server.sockets[0].getsockname()[1]
        started.set_result(asyncio.get_running_loop())
        await stop.wait()
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="engine")
    thread.start()
    loop = engine.loop = started.result(10)
    try:
        yield engine
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# Engines that work.


@behaviour
async def ok(call: Call) -> None:
    await call.write(answer())


@behaviour
async def slow_ok(call: Call) -> None:
    await asyncio.sleep(0.3)
    await call.write(answer())


@behaviour
async def held(call: Call) -> None:
    """Answers when the test lets it."""
    await call.engine.released.wait()
    await call.write(answer())


@behaviour
async def who(call: Call) -> None:
    """Says what it was sent."""
    said = {"path": call.request.path, "headers": call.request.headers}
    said["body"] = call.request.body.decode("latin-1")
    await call.write(answer(json.dumps(said).encode()))


@behaviour
async def not_found(call: Call) -> None:
    await call.write(answer(b'{"error":{"message":"no","code":404}}', "404 Not Found"))


@behaviour
async def bad_request(call: Call) -> None:
    await call.write(answer(b'{"error":{"message":"too long","code":400}}', "400 Bad Request"))


@behaviour
async def usage(call: Call) -> None:
    await call.write(STREAM_HEAD + event({"choices": []}))
    await call.pause()
    await call.write(event({"usage": {"prompt_tokens": 7, "completion_tokens": 9}}))
    await call.pause()
    await call.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


@behaviour
async def torn_usage(call: Call) -> None:
    """A usage event that comes in many reads."""
    await call.write(STREAM_HEAD + event({"choices": []}))
    text = b'data: {"usage":{"prompt_tokens":7,"completion_tokens":9}}\n\ndata: [DONE]\n\n'
    for start in range(0, len(text), 9):
        await call.pause(0.01)
        await call.write(chunk(text[start : start + 9]))
    await call.write(b"0\r\n\r\n")


@behaviour
async def torn_first_event(call: Call) -> None:
    await call.write(STREAM_HEAD + chunk(b"da"))
    await call.pause()
    await call.write(chunk(b'ta: {"a": 1}\n'))
    await call.pause()
    await call.write(chunk(b"\n") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


@behaviour
async def held_stream(call: Call) -> None:
    """One event, then nothing until the test lets it go on."""
    await call.write(STREAM_HEAD + event({"n": 1}))
    await call.engine.released.wait()
    await call.write(event({"n": 2}) + b"0\r\n\r\n")


@behaviour
async def early_100(call: Call) -> None:
    await call.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    await call.pause(0.02)
    await call.write(answer())


@behaviour
async def early_hints(call: Call) -> None:
    await call.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + answer())


@behaviour
async def trailers(call: Call) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    await call.write(head + chunk(b"body") + b"0\r\nx-trailer: 1\r\n\r\n")


@behaviour
async def no_content(call: Call) -> None:
    await call.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@behaviour
async def close_delimited(call: Call) -> None:
    await call.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nhello ")
    await call.pause()
    await call.write(b"world")
    call.close()


@behaviour
async def big(call: Call) -> None:
    """105 MB, as fast as they are taken."""
    await call.write(STREAM_HEAD + event({"n": 1}))
    piece = chunk(b"x" * BIG_CHUNK)
    call.engine.bytes_sent = 0
    for _ in range(BIG_CHUNKS):
        await call.write(piece)
        call.engine.bytes_sent += BIG_CHUNK
    await call.write(b"0\r\n\r\n")


# Engines that break.


@behaviour
async def close_before(call: Call) -> None:
    call.close()


@behaviour
async def reset_before(call: Call) -> None:
    call.reset()


@behaviour
async def half_head(call: Call) -> None:
    await call.write(b"HTTP/1.1 200 OK\r\ncontent-")
    call.close()


@behaviour
async def head_only(call: Call) -> None:
    """The head of a stream, as vLLM sends it before it computes, and then the end."""
    await call.write(STREAM_HEAD)
    call.close()


@behaviour
async def mid_stream(call: Call) -> None:
    await call.write(STREAM_HEAD + chunk(b"data: 1\n\n"))
    await call.pause()
    await call.write(chunk(b"data: 2\n\n") + b"ff\r\ndata: half")
    call.close()


@behaviour
async def mid_json(call: Call) -> None:
    await call.write(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"half":')
    call.close()


@behaviour
async def mid_chunked_json(call: Call) -> None:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    await call.write(head + chunk(b'{"half":'))
    await call.pause()
    call.close()


@behaviour
async def silent(call: Call) -> None:
    await call.wait_for_close()


@behaviour
async def gap(call: Call) -> None:
    await call.write(STREAM_HEAD + chunk(b"data: 1\n\n"))
    await call.wait_for_close()


@behaviour
async def second_answer(call: Call) -> None:
    await call.write(answer() + answer(b"EVIL"))


@behaviour
async def junk_after(call: Call) -> None:
    await call.write(answer() + b"garbage")


@behaviour
async def junk_later(call: Call) -> None:
    """Bytes on a connection that nobody uses."""
    await call.write(answer())
    await call.pause(0.1)
    await call.write(answer(b"EVIL"))


@behaviour
async def not_http(call: Call) -> None:
    await call.write(b"SSH-2.0-OpenSSH\r\n")


@behaviour
async def endless_head(call: Call) -> None:
    await call.write(b"HTTP/1.1 200 OK\r\n")
    while True:  # until the router hangs up
        await call.write(b"x-endless: " + b"x" * 1000 + b"\r\n")


@behaviour
async def giant_head(call: Call) -> None:
    await call.write(answer(extra=f"x-giant: {'x' * 100_000}\r\n"))


@behaviour
async def idle_close(call: Call) -> None:
    await call.write(answer())
    await asyncio.sleep(float(str(call.fields.get("delay", 0))))
    call.close()


@behaviour
async def error_event_first(call: Call) -> None:
    error = {"error": {"message": "core died", "type": "InternalServerError", "code": 500}}
    await call.write(STREAM_HEAD + event(error) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


@behaviour
async def abort_event_first(call: Call) -> None:
    """What a vLLM that shuts down may say."""
    aborted = {"choices": [{"index": 0, "text": "", "finish_reason": "abort"}]}
    await call.write(STREAM_HEAD + event(aborted) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


@behaviour
async def bad_request_event_first(call: Call) -> None:
    error = {"error": {"message": "too long", "type": "BadRequestError", "code": 400}}
    await call.write(STREAM_HEAD + event(error) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def _named(name: str, data: object) -> bytes:
    """An event as Responses and Messages write it."""
    return chunk(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())


_FAILED = {
    "type": "response.failed",
    "response": {"id": "r", "error": {"code": "server_error", "message": "core died"}},
}
_BROKEN = {"type": "error", "error": {"type": "internal_error", "message": "core died"}}


@behaviour
async def response_failed_first(call: Call) -> None:
    await call.write(STREAM_HEAD + _named("response.failed", _FAILED) + b"0\r\n\r\n")


@behaviour
async def message_error_first(call: Call) -> None:
    await call.write(STREAM_HEAD + _named("error", _BROKEN) + b"0\r\n\r\n")


@behaviour
async def response_fails_later(call: Call) -> None:
    created = _named("response.created", {"type": "response.created", "response": {"error": None}})
    await call.write(STREAM_HEAD + created + _named("response.failed", _FAILED) + b"0\r\n\r\n")


@behaviour
async def message_fails_later(call: Call) -> None:
    started = _named("message_start", {"type": "message_start", "message": {}})
    await call.write(STREAM_HEAD + started + _named("error", _BROKEN) + b"0\r\n\r\n")


def _status(name: str, status: str) -> None:
    async def respond(call: Call) -> None:
        code = int(status[:3])
        await call.write(answer(json.dumps({"error": {"code": code}}).encode(), status))

    BEHAVIOURS[name] = respond


for _code, _phrase in (
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (424, "Failed Dependency"),
    (429, "Too Many Requests"),
    (500, "Internal Server Error"),
    (502, "Bad Gateway"),
    (503, "Service Unavailable"),
    (504, "Gateway Timeout"),
):
    _status(f"status_{_code}", f"{_code} {_phrase}")
