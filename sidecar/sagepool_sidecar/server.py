"""GET /drain, /load and /health."""

import json
import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast

from sagepool_sidecar.drain import Drain, DrainLimits, Outcome
from sagepool_sidecar.engine import FRESH_S, Engine

_logger: Final = logging.getLogger(__name__)
_HEAD_LIMIT_S: Final = 10.0


class Sidecar(ThreadingHTTPServer):
    """Serves until `stop`.

    Args:
        address: host and port to listen on.
        engine: the one in the same pod.
        limits: of a drain.
        clock: seconds, monotonic.

    Raises OSError when the address cannot be bound.
    """

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        engine: Engine,
        limits: DrainLimits,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(address, _Handler)
        self.engine = engine
        self._limits = limits
        self._clock = clock
        self._stopping = threading.Event()

    def drain(self) -> Outcome | None:
        """Wait until the engine may be stopped; None when this process itself is stopped before."""
        began = self._clock()
        drain = Drain(self._limits, began)
        _logger.info("the pod is leaving: waiting for its engine to become idle")
        while (outcome := drain.outcome(self._clock())) is None:
            sample = self.engine.look()
            drain.note(sample.answer, sample.taken_at)
            if self._stopping.wait(FRESH_S):
                return None
        _logger.info("the engine may stop after %.1f s: %s", self._clock() - began, outcome)
        return outcome

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
        answer = sidecar.engine.look().answer
        if isinstance(answer, str):
            self._answer(503, {"error": f"the engine's metrics cannot be read: {answer}"})
            return
        figures = {
            "running": answer.running,
            "waiting": answer.waiting,
            "kvCacheUsage": answer.kv_cache_usage,
        }
        self._answer(200, figures)

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
