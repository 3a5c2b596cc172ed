"""Engines for a control plane: they pass its probes, remember what they were asked, can wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from client_server import Received, Reply, ScriptedServer, error_reply, scripted

PROBE = "sagepool probe"
"""What a router embeds before it trusts an engine."""


class Engine:
    """Answers with what it was asked; while it is held, only when it is let go."""

    def __init__(self, model: str, kind: str) -> None:
        self.model = model
        self.kind = kind
        self.server: ScriptedServer | None = None
        self.is_failing = False
        self._go = threading.Event()
        self._go.set()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self.server is not None
        return self.server.port

    @property
    def instance(self) -> dict[str, Any]:
        """As `create_with_control_plane` takes it."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "model_name": self.model,
            "instance_type": self.kind,
        }

    @property
    def asked(self) -> list[Any]:
        """The last message or the texts of every request, in the order of their coming."""
        assert self.server is not None
        told = [_content(got.body) for got in self.server.received]
        return [content for content in told if content != [PROBE]]

    def hold(self) -> None:
        """Answer nothing from now on."""
        self._go.clear()

    def let_go(self) -> None:
        """Answer again."""
        self._go.set()

    def answer(self, got: Received) -> Reply:
        """The answer to a request."""
        assert self._go.wait(30), "nobody let the engine go"
        if self.is_failing:
            return error_reply(503, "out of order")
        content = _content(got.body)
        if "input" in got.body:
            vectors = [
                {"index": i, "object": "embedding", "embedding": [float(len(text)), 1.0]}
                for i, text in enumerate(content)
            ]
            usage = {"prompt_tokens": len(content), "total_tokens": len(content)}
            body = {"object": "list", "model": self.model, "data": vectors, "usage": usage}
            return Reply(body=body)
        message = {"role": "assistant", "content": f"re: {content}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return Reply(body={"id": "1", "model": self.model, "choices": [choice]})


def _content(body: Any) -> Any:
    if "input" in body:
        return body["input"] if isinstance(body["input"], list) else [body["input"]]
    return body["messages"][-1]["content"]


@contextmanager
def engine(model: str = "m", kind: str = "llm") -> Iterator[Engine]:
    """Run one until the block ends."""
    made = Engine(model, kind)
    with scripted(made.answer, models=Reply(body={"data": [{"id": model}]})) as server:
        made.server = server
        try:
            yield made
        finally:
            made.let_go()
