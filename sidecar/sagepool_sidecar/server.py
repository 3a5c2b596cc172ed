"""GET /drain, /load and /health."""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast

from sagepool_sidecar.drain import Drain, DrainLimits, Failure, Outcome, joint_outcome
from sagepool_sidecar.engine import FRESH_S, Engine
from sagepool_sidecar.page import Load, add_loads

_logger: Final = logging.getLogger(__name__)
_HEAD_LIMIT_S: Final = 10.0


class Sidecar(ThreadingHTTPServer):
    """Serves until `stop`.

    Args:
        address: host and port to listen on.
        engines: the processes in the same pod that are stopped together.
        limits: of a drain.
        clock: seconds, monotonic.

    Raises OSError when the address cannot be bound.
    """

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        engines: Sequence[Engine],
        limits: DrainLimits,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(address, _Handler)
        self._engines = engines
        self._limits = limits
        self._clock = clock
        self._stopping = threading.Event()

    def drain(self) -> Outcome | None:
        """Wait until the engines may be stopped; None when this process itself is stopped first."""
        began = self._clock()
        drains = [Drain(self._limits, began) for _ in self._engines]
        _logger.info("the pod is leaving: waiting for its engine to become idle")
        while (outcome := joint_outcome(drains, self._clock())) is None:
            for engine, drain in zip(self._engines, drains, strict=True):
                sample = engine.look()
                drain.note(sample.answer, sample.taken_at)
            if self._stopping.wait(FRESH_S):
                return None
        _logger.info("the engine may stop after %.1f s: %s", self._clock() - began, outcome)
        return outcome

    def loads(self) -> list[tuple[int, Load | Failure]]:
        """The port of each engine with what it says now."""
        return [(engine.port, engine.look().answer) for engine in self._engines]

    def stop(self) -> None:
        """End `serve_forever`, and drains that are under way; returns at once."""
        self._stopping.set()
        threading.Thread(target=self.shutdown, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    timeout = _HEAD_LIMIT_S

    def do_GET(self) -> None:
        sidecar = cast("Sidecar", self.server)
        match self.path:
            case "/health":
                self._answer(200, {"status": "ok"})
            case "/load":
                self._answer_load(sidecar)
            case "/drain":
                outcome = sidecar.drain()
                self._answer(200 if outcome else 503, {"outcome": outcome or "the sidecar stops"})
            case _:
                self._answer(404, {"error": f"{self.path}: there are /drain, /load and /health"})

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: the kubelet asks for the health all the time."""

    def _answer_load(self, sidecar: Sidecar) -> None:
        loads: list[tuple[int, Load]] = []
        for port, answer in sidecar.loads():
            if isinstance(answer, str):
                # Of the others alone the pod would look less loaded than it is.
                words = f"the metrics of the engine on port {port} cannot be read: {answer}"
                self._answer(503, {"error": words})
                return
            loads.append((port, answer))
        total = add_loads(load for _, load in loads)
        engines = [{"port": port, **_figures(load)} for port, load in loads]
        self._answer(200, {**_figures(total), "engines": engines})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _figures(load: Load) -> dict[str, Any]:
    return {
        "running": load.running,
        "waiting": load.waiting,
        "kvCacheUsage": load.kv_cache_usage,
    }
