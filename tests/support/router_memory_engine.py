"""Engines of a router in memory: every answer names the request that it is for, and no two are
alike, so that a mix-up shows whatever it is."""

import asyncio
import base64
import json
import re
import struct
import zlib
from collections.abc import Callable
from typing import Literal

from router_memory_client import names_in
from router_memory_loop import MemoryLoop, Wire

Framing = Literal["sized", "chunked", "closing"]
Door = Literal["open", "slow", "shut", "stuck"]

_PAGE = b"vllm:num_requests_running 1.0\nvllm:num_requests_waiting 3.0\nte_queue_size 2\n"
_LENGTH = re.compile(rb"content-length: ([0-9]+)")
_FORM_MODEL = re.compile(rb'name="?model"?\r\n\r\n([^\r]*)')
_ID = re.compile(rb"x-request-id: ([^\r]*)")


def embed(text: str, *, is_base64: bool = False) -> object:
    """The embedding of a text, which follows from the text."""
    vector = (float(zlib.crc32(text.encode()) % 4096), float(len(text)))
    if is_base64:
        return base64.b64encode(struct.pack("<2f", *vector)).decode()
    return list(vector)


class Attempt:
    """A request that an engine got, and what it says to it."""

    def __init__(self, engine: "Engine", wire: Wire, head: bytes, body: bytes) -> None:
        self.number = next(engine.loop.numbers)
        self.engine = engine
        self.wire = wire
        self.path = head.split(b" ", 2)[1].decode()
        self.body = body
        self.names = names_in(body)
        """The requests that it carries: several where embeddings travel together."""
        self.status = 0
        """Of the answer, once that has begun."""
        self.text = b""
        """The answer's body as far as it was sent."""
        self.is_done = False
        """The engine will say no more."""
        self._size = 0
        self._ends_at: int | None = None
        self._framing: Framing = "sized"
        """How the router is to know the body's end."""
        self._steps = 0
        self._check(head)

    def _check(self, head: bytes) -> None:
        found = _ID.search(head)
        assert found is not None
        assert found[1].decode() in self.names, "under the id of another request"
        assert self.names, "a request of nobody"
        if self.is_json:
            model = json.loads(self.body)["model"]
        else:
            form_model = _FORM_MODEL.search(self.body)
            assert form_model is not None
            model = form_model[1].decode()
        assert model in self.engine.models, "to an engine that does not serve the model"

    @property
    def is_json(self) -> bool:
        return self.body.startswith(b"{")

    @property
    def is_whole(self) -> bool:
        """The answer was sent to its end, and the router has read all of it."""
        return self._ends_at is not None and self._ends_at <= self.wire.delivered

    @property
    def is_open(self) -> bool:
        """The router waits for it."""
        return not self.is_done and not self.wire.is_closing()

    @property
    def streams(self) -> bool:
        return b'"stream": true' in self.body

    def texts(self) -> list[str]:
        given = json.loads(self.body)["input"]
        return given if isinstance(given, list) else [given]

    # What the engine says.

    def words(self) -> bytes:
        """A right answer, whole."""
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        body: dict[str, object] = {"id": f"answer-{self.number}", "usage": usage}
        if self.path.endswith("/embeddings"):
            is_base64 = b'"base64"' in self.body
            body["object"] = "list"
            body["model"] = "the-engine-s"
            body["data"] = [
                {"object": "embedding", "index": i, "embedding": embed(t, is_base64=is_base64)}
                for i, t in enumerate(self.texts())
            ]
        else:
            body["said"] = sorted(self.names)
        return json.dumps(body).encode()

    def refusal(self, status: int) -> bytes:
        return json.dumps(
            {"error": {"message": f"answer-{self.number}", "type": "engine", "code": status}}
        ).encode()

    def too_few(self) -> bytes:
        """An embedding less than there are texts; for all else the half of an answer."""
        words = json.loads(self.words())
        words["data"] = words.get("data", [])[1:]
        return json.dumps(words).encode()

    def abortion(self) -> bytes:
        """The first event of an engine that shuts down."""
        event = {"id": f"answer-{self.number}", "choices": [{"finish_reason": "abort"}]}
        return b"data: %b\n\n" % json.dumps(event).encode()

    def said_as_event(self, body: bytes) -> bool:
        """Whether it is an error that its stream began with."""
        return bool(body) and self.text.startswith(b"data: %b\n\n" % body)

    def event(self) -> bytes:
        self._steps += 1
        event = {"id": f"answer-{self.number}", "said": sorted(self.names), "step": self._steps}
        return b"data: %b\n\n" % json.dumps(event).encode()

    def begin(
        self,
        status: int,
        body: bytes,
        framing: Framing,
        *,
        size: int | None = None,
        field: str = "",
    ) -> None:
        """Send the head together with some of the body.

        Args:
            status: of the answer.
            body: what is sent of it now.
            framing: how the router is to know the body's end.
            size: of the whole body, if it is more than that.
            field: a line more in the head.
        """
        self.status = status
        self._framing = framing
        self._size = len(body) if size is None else size
        kind = b"text/event-stream" if self.streams and status == 200 else b"application/json"
        end = {
            "sized": b"content-length: %d" % self._size,
            "chunked": b"transfer-encoding: chunked",
            "closing": b"connection: close",
        }[framing]
        head = b"HTTP/1.1 %d Said\r\ncontent-type: %b\r\n%b\r\n\r\n" % (status, kind, end)
        if field:
            head = head.replace(b"\r\n", b"\r\n%b\r\n" % field.encode(), 1)
        self._say(head, body)

    def go_on(self, body: bytes) -> None:
        self._say(b"", body)

    def end(self) -> None:
        """The answer is complete."""
        if not self.is_done:
            self._end()
            self.wire.feed_eof() if self._framing == "closing" else self.wire.feed(b"0\r\n\r\n")

    def spoil(self, data: bytes) -> None:
        """Send what no answer is made of."""
        self.is_done = True
        if self._framing == "closing":
            self.text += data  # whatever comes is a part of the body
        self.wire.feed(data)
        if self._framing == "closing":
            self.wire.feed_reset()

    def hang_up(self, *, is_reset: bool) -> None:
        """Say no more."""
        if self.status and self._framing == "closing" and not is_reset:
            self._end()  # who ends a body by closing cannot break it off so
        self.is_done = True
        self.wire.feed_reset() if is_reset else self.wire.feed_eof()

    def _say(self, head: bytes, body: bytes) -> None:
        self.text += body
        if self._framing == "sized" and len(self.text) == self._size:
            self._end()  # before it is read: the next request may come at once
        self.wire.feed(head + self._frame(body))

    def _end(self) -> None:
        self.is_done = True
        self._ends_at = self.wire.fed + 1

    def _frame(self, body: bytes) -> bytes:
        if self._framing == "chunked" and body:
            return b"%x\r\n%b\r\n" % (len(body), body)
        return body


class Engine:
    """Answers when a test says so; its page of metrics at once."""

    def __init__(self, loop: MemoryLoop, port: int, name: str, models: tuple[str, ...]) -> None:
        self.name = name
        self.models = models
        self.door: Door = "open"
        """How it takes new connections."""
        self.attempts: list[Attempt] = []
        """All that it was ever sent."""
        self.lines: list[_Line] = []
        """All connections that it ever had."""
        self.loop = loop
        loop.listeners[port] = self

    async def accept(self, factory: Callable[[], asyncio.Protocol]) -> Wire:
        if self.door == "shut":
            raise ConnectionRefusedError(111, "refused")
        if self.door != "open":
            await asyncio.sleep(0.01 if self.door == "slow" else 3600)
        line = _Line(self)
        line.wire = Wire(self.loop, factory(), line)
        self.lines.append(line)
        return line.wire

    @property
    def idle(self) -> list[Wire]:
        """Connections on which nothing is to be answered."""
        return [line.wire for line in self.lines if line.is_idle]


class _Line:
    """A connection of the router to an engine: a Peer for its wire."""

    wire: Wire

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._heard = b""
        self._attempt: Attempt | None = None

    @property
    def is_idle(self) -> bool:
        attempt = self._attempt
        return not self.wire.is_closing() and (attempt is None or attempt.is_whole)

    @property
    def is_busy(self) -> bool:
        """The engine still has something to do here."""
        return not self.wire.is_closing() and bool(self._attempt and not self._attempt.is_done)

    def hear(self, data: bytes) -> None:
        self._heard += data
        head, separator, rest = self._heard.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head)
        size = int(length[1]) if length is not None else 0
        if len(rest) < size:
            return
        assert len(rest) == size, "a second request before the first is answered"
        self._heard = b""
        if head.startswith(b"GET "):
            # not from here: the router has not yet returned from sending
            self._engine.loop.call_soon(self._show_page)
            return
        assert self._attempt is None or self._attempt.is_done, "a second request at a time"
        self._attempt = Attempt(self._engine, self.wire, head, rest)
        self._engine.attempts.append(self._attempt)

    def _show_page(self) -> None:
        self.wire.feed(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(_PAGE), _PAGE))

    def hung_up(self, *, is_reset: bool) -> None:
        pass
