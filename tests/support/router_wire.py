"""A client that sees every byte: raw sockets, so that tests can send what no library would."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

CHAT = "/v1/chat/completions"
Ending = Literal["eof", "reset", "open"]


@dataclass(frozen=True)
class Response:
    """One response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool
    """Its end came as HTTP says it must; a body that ends by closing counts as whole at EOF."""

    @property
    def error(self) -> dict[str, object]:
        """The OpenAI-shaped error."""
        error = json.loads(self.body)["error"]
        assert isinstance(error, dict)
        return error

    @property
    def code(self) -> object:
        return self.error["code"]


class Wire:
    """A connection."""

    def __init__(self, port: int, *, receive_buffer: int = 0, timeout: float = 10) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self._timeout = timeout
        self._buffer = b""
        self.ending: Ending = "open"

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_as_far_as_possible(self, data: bytes) -> None:
        """For uploads that the router may refuse before their end."""
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def close(self) -> None:
        self.socket.close()

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and with the mark."""
        while mark not in self._buffer:
            if not self._receive():
                raise AssertionError(f"{mark!r} did not come, {self.ending}: {self._buffer!r}")
        head, found, self._buffer = self._buffer.partition(mark)
        return head + found

    def response(self, *, to_head: bool = False) -> Response:
        """Read one response, or as much of it as there is."""
        head = self.read_until(b"\r\n\r\n").decode("latin-1")
        line, *lines = head.strip().split("\r\n")
        headers = {n.lower(): v.strip() for n, _, v in (x.partition(":") for x in lines)}
        status = int(line.split(" ")[1])
        if to_head or status < 200 or status in (204, 304):
            return Response(status, headers, b"", True)
        if "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
            return Response(status, headers, body, len(body) == int(headers["content-length"]))
        if headers.get("transfer-encoding") == "chunked":
            return Response(status, headers, *self._chunked())
        while self._receive():
            pass
        body, self._buffer = self._buffer, b""
        return Response(status, headers, body, self.ending == "eof")

    def skip_until(self, mark: bytes) -> int:
        """Read far without keeping it: how many bytes came up to and with the mark."""
        count = 0
        while mark not in self._buffer:
            kept = self._buffer[-len(mark) :]
            count += len(self._buffer) - len(kept)
            self._buffer = kept
            if not self._receive():
                raise AssertionError(f"{mark!r} did not come, {self.ending}")
        head, found, self._buffer = self._buffer.partition(mark)
        return count + len(head) + len(found)

    def rest(self, timeout: float = 5) -> tuple[bytes, Ending]:
        """What comes until the connection ends, and how it ends."""
        self.socket.settimeout(timeout)
        try:
            while self._receive():
                pass
        except TimeoutError:
            self.ending = "open"
        self.socket.settimeout(self._timeout)
        body, self._buffer = self._buffer, b""
        return body, self.ending

    def is_silent(self, timeout: float = 0.15) -> bool:
        """Nothing comes for a while and the connection stays open."""
        return self.rest(timeout) == (b"", "open")

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size and self._receive():
            pass
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body

    def _chunked(self) -> tuple[bytes, bool]:
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                if not self._receive():
                    return body, False
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            size = int(line, 16)
            piece = self._exactly(size + 2)
            if len(piece) < size + 2:
                return body + piece, False
            if size == 0:
                return body, True
            body += piece[:-2]

    def _receive(self) -> bool:
        try:
            data = self.socket.recv(262144)
        except ConnectionResetError:
            self.ending = "reset"
            return False
        if not data:
            self.ending = "eof"
        self._buffer += data
        return bool(data)


@contextmanager
def wire(port: int, *, receive_buffer: int = 0) -> Iterator[Wire]:
    """A connection until the block ends."""
    connection = Wire(port, receive_buffer=receive_buffer)
    try:
        yield connection
    finally:
        connection.close()


def chat_body(model: str, **more: object) -> bytes:
    return json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "x"}], **more}
    ).encode()


def post(
    model: str = "ok",
    *,
    path: str = CHAT,
    version: str = "1.1",
    fields: tuple[str, ...] = (),
    body: bytes | None = None,
    **more: object,
) -> bytes:
    """A POST with a length."""
    payload = chat_body(model, **more) if body is None else body
    return raw(path, payload, *fields, f"content-length: {len(payload)}", version=version)


def raw(path: str, body: bytes, *fields: str, version: str = "1.1", method: str = "POST") -> bytes:
    """A request with just these fields."""
    lines = "".join(f"{line}\r\n" for line in ("host: router", *fields))
    return f"{method} {path} HTTP/{version}\r\n{lines}\r\n".encode("latin-1") + body


def chunked(*pieces: bytes) -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def ask(port: int, request: bytes) -> Response:
    """One request on a connection of its own."""
    with wire(port) as connection:
        connection.send(request)
        return connection.response(to_head=request.startswith(b"HEAD"))


def eventually(condition: Callable[[], bool], what: str, limit_s: float = 10) -> None:
    """Wait until the condition holds."""
    ends_at = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > ends_at:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.005)


def events(body: bytes) -> list[str]:
    """The data of the events of a stream."""
    return re.findall(r"^data: ?(.*)$", body.decode(), re.MULTILINE)
