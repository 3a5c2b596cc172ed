"""What a start shows until all is ready."""

import io
import os

import pytest
from rich.console import Console

from sagepool.cli.progress import StartProgress, table
from sagepool.laptop.process import identify
from sagepool.laptop.record import PartRecord, Phase, Record


def record(phase: Phase, doing: str = "", message: str = "") -> Record:
    """Of a pool with one engine."""
    own = identify(os.getpid())
    assert own is not None
    part = PartRecord(
        "chat-0", "engine", "chat", "vllm", [], "", phase, message=message, doing=doing
    )
    return Record("rag", own, "", "", "", "starting", 0.0, parts=[part])


def test_in_a_pipe_the_log_is_told_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with StartProgress(lambda: now) as progress:
        for second in range(70):
            now = float(second)
            progress.show(record("starting", f"loading {second}"))
        progress.show(record("ready"))
    assert capsys.readouterr().err.splitlines() == [
        "chat-0: starting",
        "chat-0: starting: loading 30",
        "chat-0: starting: loading 60",
        "chat-0: ready",
    ]


@pytest.mark.parametrize("width", [30, 200])
def test_a_terminal_has_one_line_a_part(width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as shown:
        console.print(table(record("starting", "loading weights " * 8, "health check answers 503")))
    (line,) = shown.get().splitlines()
    assert len(line.rstrip()) <= width
    assert "chat-0" in line


def test_a_terminal_shows_the_problem_and_the_last_line() -> None:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as shown:
        console.print(table(record("starting", "loading 3/8", "its health check answers 503")))
    assert "its health check answers 503: loading 3/8" in shown.get()
