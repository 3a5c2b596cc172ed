"""Clients of a router in memory: what they send, and what they have got in the end."""

import json
import re
from dataclasses import dataclass

from router_memory_loop import MemoryLoop, Wire
from sagepool_router.protocol import InferenceProtocol

_NAME = re.compile(rb"request-[0-9]+")


def names_in(data: bytes) -> set[str]:
    """The requests that something names: each stands in its own body."""
    return {name.decode() for name in _NAME.findall(data)}


@dataclass(frozen=True)
class Request:
    """One request as it is sent."""

    name: str
    path: str
    raw: bytes
    model: str = ""
    """As engines know it; empty if it is no request to an engine."""
    texts: tuple[str, ...] = ()
    """To embed."""
    is_base64: bool = False
    is_valid: bool = True
    """A router could send it to an engine."""

    @property
    def is_for_app(self) -> bool:
        return self.path in ("/health", "/echo")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    fields: dict[str, str]
    body: bytes
    is_complete: bool

    @property
    def ends_connection(self) -> bool:
        return not self.is_complete or self.fields.get("connection") == "close"

    @property
    def error(self) -> tuple[int, str]:
        """Status and code of an error of the router's own; no code if it is none."""
        try:
            code = json.loads(self.body)["error"]["code"]
        except (ValueError, LookupError, TypeError):
            code = ""
        return (self.status, code)


class Client:
    """One connection; an own Peer for its wire."""

    def __init__(self, loop: MemoryLoop, make_protocol: type, **arguments: object) -> None:
        self.requests: list[Request] = []
        """In the order in which they were begun."""
        self.unsent = b""
        """What is left of the last one."""
        self.heard = bytearray()
        self.has_left = False
        self.ended = ""
        """How the router ended the connection: eof or reset; empty if it did not."""
        self.protocol: InferenceProtocol = make_protocol(**arguments, _loop=loop)
        self.wire = Wire(loop, self.protocol, self)

    @property
    def is_open(self) -> bool:
        return not self.has_left and not self.wire.is_closing()

    def send(self, request: Request, size: int | None = None) -> None:
        """Send a request, or its first bytes."""
        self.requests.append(request)
        self.unsent = request.raw
        self.go_on(size)

    def go_on(self, size: int | None = None) -> None:
        """Send more of the last request."""
        now, self.unsent = self.unsent[:size], b"" if size is None else self.unsent[size:]
        if now:
            self.wire.feed(now)

    def leave(self, *, is_reset: bool) -> None:
        self.has_left = True
        self.wire.feed_reset() if is_reset else self.wire.feed_eof()

    def answers(self) -> list[Answer]:
        """All that came, cut into answers."""
        found: list[Answer] = []
        data = bytes(self.heard)
        while data:
            answer, data = _read_answer(data, self.ended)
            if answer.status != 100:
                found.append(answer)
        return found

    # Peer

    def hear(self, data: bytes) -> None:
        self.heard += data

    def hung_up(self, *, is_reset: bool) -> None:
        if not self.has_left:
            self.ended = "reset" if is_reset else "eof"


def _read_answer(data: bytes, ended: str) -> tuple[Answer, bytes]:
    head, separator, rest = data.partition(b"\r\n\r\n")
    assert separator, "an answer breaks off in its head"
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name.lower() not in fields, f"twice: {line}"
        fields[name.lower()] = value
    status = int(first.split(" ")[1])
    if status == 100:
        return Answer(status, fields, b"", True), rest
    if "content-length" in fields:
        assert "transfer-encoding" not in fields
        size = int(fields["content-length"])
        return Answer(status, fields, rest[:size], len(rest) >= size), rest[size:]
    if fields.get("transfer-encoding") == "chunked":
        body, is_complete, rest = _read_chunks(rest)
        return Answer(status, fields, body, is_complete), rest
    return Answer(status, fields, rest, ended == "eof"), b""


def _read_chunks(data: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while True:
        size, separator, rest = data.partition(b"\r\n")
        if not separator:
            return body, False, b""
        length = int(size, 16)
        if len(rest) < length + 2:
            return body + rest[:length], False, b""
        assert rest[length : length + 2] == b"\r\n"
        if not length:
            return body, True, rest[2:]
        body += rest[:length]
        data = rest[length + 2 :]
