"""One process is told from every other, also from the next one with its number."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from sagepool.laptop.process import (
    ProcessId,
    end,
    identify,
    is_alive,
    listens,
    send_signal,
    session_members,
    wait_until_gone,
)

STUBBORN = (
    "import signal, time; signal.signal(15, signal.SIG_IGN); "
    "print('on', flush=True); time.sleep(60)"
)
PARENT = (
    "import subprocess, sys, time; "
    "child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); time.sleep(60)"
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def named(process: subprocess.Popen[bytes]) -> ProcessId:
    found = identify(process.pid)
    assert found is not None
    return found


def test_a_process_that_ended_is_not_alive_even_before_it_is_collected(
    sleeper: subprocess.Popen[bytes],
) -> None:
    process = named(sleeper)
    assert is_alive(process)
    sleeper.kill()
    assert wait_until_gone(process, 5)
    assert identify(sleeper.pid) is None


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}])
def test_the_same_number_with_another_start_is_another_process(
    sleeper: subprocess.Popen[bytes], change: dict[str, object]
) -> None:
    other = msgspec.structs.replace(named(sleeper), **change)
    assert not is_alive(other)
    assert not send_signal(other, signal.SIGKILL)
    end([other], 0)
    assert sleeper.poll() is None
    assert list(session_members(other)) == []


def test_a_number_that_nobody_has_takes_no_signal() -> None:
    assert not send_signal(ProcessId(2**22 + 1, 1, "b"), signal.SIGTERM)


def test_end_kills_who_does_not_heed_sigterm() -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        end([named(process)], 0.1)
        assert process.wait() == -signal.SIGKILL


def test_a_wait_has_a_limit(sleeper: subprocess.Popen[bytes]) -> None:
    assert not wait_until_gone(named(sleeper), 0.05)


def test_what_a_leader_left_in_its_session_is_found() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        leader = named(process)
        assert {member.pid for member in session_members(leader)} == {process.pid, child}
        process.kill()
        process.wait()
        left = list(session_members(leader))
        assert [member.pid for member in left] == [child]
        end(left, 1)
        assert not is_alive(left[0])


def test_a_process_of_ours_is_found_with_parentheses_in_its_name(tmp_path) -> None:
    program = tmp_path / "a) b (c"
    os.symlink("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:
        assert named(process).started > 0
        process.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_listens_on_a_port_is_told_from_who_does_not(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    program = (
        f"import socket; s = socket.socket({int(family)}); s.bind(({host!r}, 0)); s.listen(); "
        "print(s.getsockname()[1], flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        listener, other = identify(process.pid), identify(os.getpid())
        assert listener is not None
        assert other is not None
        assert listens(listener, port)
        assert not listens(listener, port + 1)
        assert not listens(msgspec.structs.replace(listener, pid=other.pid), port)
        process.communicate(b"\n")
    assert not listens(listener, port)
