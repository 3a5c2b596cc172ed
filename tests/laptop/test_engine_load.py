"""The load in `sage llm status`, where no router counts requests."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sagepool.laptop.home import Home
from sagepool.laptop.process import identify
from sagepool.laptop.record import PartRecord, Phase, Record, write_record
from sagepool.laptop.status import read_status

PAGE = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 2.0
vllm:num_requests_waiting{engine="0"} 1.0
"""


@contextmanager
def engine(page: str, code: int) -> Iterator[str]:
    """The address of an engine with this page of metrics."""

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def load(folder: Path, url: str, phase: Phase = "ready") -> int | None:
    """What the status says of an engine that runs alone."""
    place = Home(folder).place("engine", "8001")
    place.make()
    own = identify(os.getpid())
    assert own is not None
    part = PartRecord("vllm", "engine", "vllm", "vllm", ["m"], url, phase)
    write_record(place, Record("8001", own, "", url, "", "ready", 0.0, parts=[part]))
    status = read_status(place)
    assert status is not None
    return status.parts[0].in_flight


def test_what_runs_and_what_waits_is_in_flight(tmp_path: Path) -> None:
    with engine(PAGE, 200) as url:
        assert load(tmp_path, url) == 3


@pytest.mark.parametrize(
    ("page", "code", "phase"),
    [
        (PAGE, 500, "ready"),
        ("vllm:num_requests_running many", 200, "ready"),
        (PAGE, 200, "starting"),
    ],
)
def test_a_load_that_is_not_known_is_none(
    tmp_path: Path, page: str, code: int, phase: Phase
) -> None:
    with engine(page, code) as url:
        assert load(tmp_path, url, phase) is None
