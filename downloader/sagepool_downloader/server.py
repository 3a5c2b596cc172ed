"""GET /progress and /health, asked by the operator."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast

from sagepool_downloader.progress import Progress

_HEAD_LIMIT_S: Final = 10.0


class ProgressServer(ThreadingHTTPServer):
    """Serves until `shutdown`. Raises OSError when the address cannot be bound."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], progress: Progress) -> None:
        super().__init__(address, _Handler)
        self.progress = progress


class _Handler(BaseHTTPRequestHandler):
    timeout = _HEAD_LIMIT_S

    def do_GET(self) -> None:
        match self.path:
            case "/progress":
                self._answer(200, _describe(cast("ProgressServer", self.server).progress))
            case "/health":
                self._answer(200, {"status": "ok"})
            case _:
                self._answer(404, {"error": f"{self.path}: there are /progress and /health"})

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: the operator asks all the time."""

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _describe(progress: Progress) -> dict[str, Any]:
    figures = progress.figures()
    return {
        "phase": figures.phase,
        "bytes": figures.bytes_done,
        "totalBytes": figures.bytes_total,
        "bytesPerSecond": figures.bytes_per_second,
        "remainingSeconds": figures.remaining_s,
    }
