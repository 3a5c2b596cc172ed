"""A server on a real socket that answers as it is told: what clients meet on bad days."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeAlias

CHAT_ANSWER = {
    "id": "chat-1",
    "model": "tiny",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
MODELS = {"object": "list", "data": [{"id": "tiny", "object": "model"}]}


@dataclass
class Reply:
    """One answer.

    Args:
        status: of it.
        body: bytes, or what becomes JSON.
        headers: besides the usual ones.
        pieces: instead of the body, parts of a chunked one.
        between: called before each piece after the first; a way to wait for the test.
        ends: how it goes on after the pieces: "whole", "broken" (no last chunk) or "reset".
        is_silent: nothing at all comes until the server is stopped.
        is_gone: the connection is closed without an answer.
    """

    status: int = 200
    body: Any = field(default_factory=lambda: CHAT_ANSWER)
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Sequence[bytes] | None = None
    between: Callable[[], object] = lambda: None
    ends: str = "whole"
    is_silent: bool = False
    is_gone: bool = False


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


Answering: TypeAlias = Reply | Callable[[Received], Reply]


def error_reply(status: int, message: str = "no", **headers: str) -> Reply:
    """An error as the OpenAI API writes it; header names with _ for -."""
    body = {"error": {"message": message, "type": "t", "param": "p", "code": "c"}}
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def events(*bodies: Any, done: bool = True) -> list[bytes]:
    """Server-sent events, one piece each."""
    texts = [json.dumps(body, ensure_ascii=False) for body in bodies]
    return [f"data: {text}\n\n".encode() for text in [*texts, *(["[DONE]"] if done else [])]]


def delta(text: str | None = None, **more: Any) -> dict[str, Any]:
    """An event of a chat's stream."""
    content = {} if text is None else {"content": text}
    finish = more.pop("finish_reason", None)
    choice = {"index": 0, "delta": {**content, **more}, "finish_reason": finish}
    return {"id": "s-1", "model": "tiny", "choices": [choice]}


class ScriptedServer:
    """Answers POSTs from a list, in order; the last one again and again.

    Args:
        replies: the list; a function makes the answer of the request.
        models: to every GET.
    """

    def __init__(self, replies: Sequence[Answering], models: Answering) -> None:
        self._replies = list(replies)
        self.models = models
        self._lock = threading.Lock()
        self.received: list[Received] = []
        """POSTs, in the order of their coming."""
        self.listings = 0
        """How often the models were asked for."""
        self.disconnected = threading.Event()
        """A client has left before its answer was whole."""
        self.stopping = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        """Base URL without /v1."""
        return f"http://127.0.0.1:{self.port}"

    def take(self, received: Received) -> Reply:
        """The answer to a request."""
        found = self._next(received)
        return found if isinstance(found, Reply) else found(received)

    def _next(self, received: Received) -> Answering:
        with self._lock:
            if received.method == "GET":
                self.listings += 1
                return self.models
            self.received.append(received)
            return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    script: ClassVar[ScriptedServer]

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, body: Any) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.script.take(Received(self.command, self.path, headers, body))
        if reply.is_silent:
            self._wait_for_the_end()
        elif reply.is_gone:
            self.close_connection = True
        else:
            self._write(reply)

    def _wait_for_the_end(self) -> None:
        self.close_connection = True
        self.connection.settimeout(0.02)
        while not self.script.stopping.is_set():
            try:
                if not self.connection.recv(1):
                    self.script.disconnected.set()
                    return
            except TimeoutError:
                continue
            except OSError:
                self.script.disconnected.set()
                return

    def _write(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.pieces is None:
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self._write_pieces(reply)
        except OSError:
            self.script.disconnected.set()
            self.close_connection = True

    def _write_pieces(self, reply: Reply) -> None:
        for number, piece in enumerate(reply.pieces or ()):
            if number:
                reply.between()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        match reply.ends:
            case "whole":
                self.wfile.write(b"0\r\n\r\n")
            case "broken":
                self.close_connection = True
            case "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
            case "open":
                self._wait_for_the_end()


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, so that one that is kept alive can be ended."""
        self.connections.add(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        """End all connections."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error here."""


@contextmanager
def scripted(
    *replies: Answering, models: Answering | None = None, port: int = 0, host: str = "127.0.0.1"
) -> Iterator[ScriptedServer]:
    """Serve until the block ends; no thread is left."""
    script = ScriptedServer(replies or (Reply(),), models or Reply(body=MODELS))
    handler = type("Handler", (_Handler,), {"script": script})
    with _Server((host, port), handler) as server:
        script.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="scripted")
        thread.start()
        try:
            yield script
        finally:
            script.stopping.set()
            server.shutdown()
            server.hang_up()
            thread.join()
