"""Processes are known by what they are, never by a pid that was written down."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagepool_cluster.errors import ComponentFailed
from sagepool_cluster.processes import (
    Process,
    find_process,
    pid_namespace,
    running_processes,
    send_signal,
)
from sagepool_cluster.waiting import wait_until


def write_process(proc: Path, pid: int, program: str, state: str = "S") -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} (a name) with ) {state} 1 1")
    (folder / "cmdline").write_bytes(f"{program}\0--flag\0".encode())


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = tmp_path / "etcd"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        yield process
        process.kill()


def test_a_process_is_found_by_the_path_it_was_started_under(tmp_path: Path) -> None:
    write_process(tmp_path, 10, "/other/bin/etcd")
    write_process(tmp_path, 11, "/state/bin/etcd")
    (tmp_path / "self").mkdir()
    assert find_process(Path("/state/bin/etcd"), tmp_path) == Process(11, "/state/bin/etcd")


def test_a_process_that_ended_and_is_not_collected_does_not_run(tmp_path: Path) -> None:
    write_process(tmp_path, 10, "/state/bin/etcd", state="Z")
    assert find_process(Path("/state/bin/etcd"), tmp_path) is None


def test_a_process_that_ends_while_it_is_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    assert list(running_processes(tmp_path)) == []


def test_a_real_process_is_found_signalled_and_gone(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    program = tmp_path / "etcd"
    wait_until(lambda: find_process(program) is not None, "the program", 5)
    found = find_process(program)
    assert found is not None
    assert pid_namespace(found.pid) == pid_namespace(os.getpid())
    send_signal(found, signal.SIGKILL)
    wait_until(lambda: find_process(program) is None, "its end", 5)
    sleeper.wait()
    send_signal(found, signal.SIGKILL)


def test_a_program_that_only_mentions_the_path_is_not_it(tmp_path: Path) -> None:
    program = tmp_path / "etcd"
    with subprocess.Popen([sys.executable, "-c", "input()", program], stdin=-1) as mention:
        assert find_process(program) is None
        mention.kill()


def test_waiting_ends_with_the_condition() -> None:
    answers = iter([False, False, True])
    wait_until(lambda: next(answers), "the third", limit_s=5, interval_s=0)


def test_waiting_in_vain_names_what_was_waited_for() -> None:
    now = iter(range(100))
    with pytest.raises(ComponentFailed, match="the node: not within 3 s"):
        wait_until(
            lambda: False, "the node", 3, clock=lambda: float(next(now)), sleep=lambda _: None
        )
