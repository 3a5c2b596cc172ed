"""`sage inference` at a terminal: in the foreground, in the background, and its logs."""

import signal
from pathlib import Path

import pytest

from sage_command import (
    Sage,
    free_port,
    kill,
    part_of,
    pids_of,
    simulated,
    terminal,
    until_gone,
    write_pool,
)

pytestmark = pytest.mark.timeout(120)


def test_without_background_it_runs_until_ctrl_c(sage: Sage, pool_file: Path) -> None:
    with terminal(sage, "inference", "start", f"-f{pool_file}", f"-p{free_port()}") as screen:
        screen.read_until("answers at")
        assert "chat-0" in screen.text
        pids = pids_of(sage.status())
        screen.type("\x03")
        assert screen.process.wait(30) == 0
    until_gone(pids, 0)
    assert sage.run("inference", "status").code == 3


def test_ctrl_c_while_it_starts_leaves_nothing(sage: Sage, tmp_path: Path) -> None:
    engine = {"type": "simulator", "args": ["--load-seconds=600"]}
    path = write_pool(tmp_path / "p", groups=[simulated("chat", "llm", "m", engine=engine)])
    with terminal(sage, "inference", "start", "-b", f"-f{path}", f"-p{free_port()}") as screen:
        screen.read_until("chat-0")
        pids = pids_of(sage.until(lambda s: "chat-0" in pids_of(s)))
        screen.type("\x03")
        assert screen.process.wait(30) == 130
    until_gone(pids, 0)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_in_the_foreground_it_ends_with_its_terminal(
    sage: Sage, pool_file: Path, number: int
) -> None:
    with terminal(sage, "inference", "start", f"-f{pool_file}", f"-p{free_port()}") as screen:
        screen.read_until("answers at")
        pids = pids_of(sage.status())
        if number == signal.SIGHUP:
            screen.hang_up()
        else:
            kill(screen.process.pid)
        screen.process.wait(30)
        until_gone(pids)


def test_in_the_background_it_survives_its_terminal(sage: Sage, pool_file: Path) -> None:
    port = free_port()
    with terminal(sage, "inference", "start", "-b", f"-f{pool_file}", f"-p{port}") as screen:
        screen.read_until("answers at")
        assert screen.process.wait(30) == 0
        screen.hang_up()
    try:
        assert sage.status()["outcome"] == "ready"
    finally:
        sage.run("inference", "stop")


def test_logs_can_be_followed(sage: Sage, pool_file: Path) -> None:
    with (
        sage.pool(pool_file),
        terminal(sage, "inference", "logs", "chat-0", "--follow") as screen,
    ):
        screen.read_until("serving")
        kill(pids_of(sage.status())["chat-0"])
        sage.until(lambda s: part_of(s, "chat-0")["restarts"] == 1)
        before = screen.text
        sage.until(lambda s: s["outcome"] == "ready")
        screen.text = ""
        screen.read_until("serving")
        assert "serving" in before
        screen.type("\x03")
        assert screen.process.wait(10) == 130
