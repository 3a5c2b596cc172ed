"""Clients with a control plane: its traces in this process, and callers whose order is certain."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from client_engines import Engine
from client_face import Client
from router_wire import eventually
from sagepool import UnifiedInferenceClient

MISSING = {"host": "127.0.0.1", "port": 1, "model_name": "m", "instance_type": "llm"}


def planes() -> list[str]:
    """Threads of control planes that live."""
    return [t.name for t in threading.enumerate() if t.name.startswith("sagepool")]


def socket_of(client: Client) -> Path:
    (endpoint,) = {endpoint.server for endpoint in client._endpoints.values()}
    assert endpoint.uds is not None
    return endpoint.uds


def waiting(client: Client) -> int:
    """Requests in the router's queue, from its own metrics."""
    transport = httpx.HTTPTransport(uds=str(socket_of(client)))
    with httpx.Client(transport=transport, base_url="http://router") as http:
        page = http.get("/metrics").text
    lines = [
        line for line in page.splitlines() if line.startswith("sagepool_router_queue_requests")
    ]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


class Callers:
    """Calls from threads, in an order that is certain: each waits in the queue before the next."""

    def __init__(self, client: UnifiedInferenceClient, stack: ExitStack) -> None:
        self._client = client
        self._stack = stack
        self.answers: dict[str, Any] = {}

    def send(self, name: str, call: Callable[[], Any]) -> None:
        """Begin a call, and go on when it waits."""
        before = waiting(self._client)
        self._start(name, call)
        eventually(lambda: waiting(self._client) == before + 1, f"{name} waits")

    def occupy(self, held: Engine, call: Callable[[], Any]) -> None:
        """Give an engine that is held its first request."""
        held.hold()
        self._start("first", call)
        eventually(lambda: len(held.asked) == 1, "the engine is busy")

    def _start(self, name: str, call: Callable[[], Any]) -> None:
        thread = threading.Thread(target=lambda: self.answers.update({name: call()}))
        thread.start()
        self._stack.callback(thread.join, 20)


def open_client(
    stack: ExitStack, instances: Sequence[Any], policy: str, **more: Any
) -> UnifiedInferenceClient:
    return stack.enter_context(
        UnifiedInferenceClient.create_with_control_plane(instances, policy, **more)
    )
