"""Ports of engines: kept from other pools of the machine also while nothing listens there."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sage_command import free_port
from sagepool.laptop.errors import CommandError, WrongUse
from sagepool.laptop.home import Home
from sagepool.laptop.keeper import Keeper
from sagepool.laptop.launch import PartLaunch
from sagepool.laptop.logfile import LogFile
from sagepool.laptop.ports import PortClaim, choose_port, claim_port, refuse_busy_port

OTHER_POOL = """
import sys
from sagepool.laptop.ports import PortClaim
claim = PortClaim(int(sys.argv[1]))
print(claim.is_held, flush=True)
sys.stdin.read()
"""

OTHER_START = """
from sagepool.laptop.ports import choose_port
print(choose_port({{{taken}}}, [{preferred}]), flush=True)
input()
"""


@contextmanager
def claimed_by_another(port: int) -> Iterator[None]:
    """Another process has claimed the port and listens nowhere; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_POOL, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "True\n"
            yield
        finally:
            other.kill()


@pytest.fixture
def port() -> int:
    return free_port()


def test_a_claimed_port_is_given_to_nobody_else(port: int) -> None:
    with claimed_by_another(port):
        assert not PortClaim(port).is_held
        assert choose_port(set(), [port]) != port
    claim = claim_port(set(), [port])
    assert claim.port == port
    assert choose_port(set(), [port]) != port
    claim.release()
    assert choose_port({port}, [port]) != port
    assert choose_port(set(), [port]) == port


def test_a_pool_is_refused_a_port_that_another_has_claimed(port: int, tmp_path: Path) -> None:
    refuse_busy_port("127.0.0.1", port, Home(tmp_path))
    with (
        claimed_by_another(port),
        pytest.raises(CommandError, match=f"port {port} of 127.0.0.1 is taken by another program"),
    ):
        refuse_busy_port("127.0.0.1", port, Home(tmp_path))


async def test_engines_of_two_pools_that_load_at_once_have_ports_of_their_own(
    tmp_path: Path,
) -> None:
    async with httpx.AsyncClient() as client:

        def keeper() -> Keeper:
            return Keeper(
                PartLaunch("chat-0", "engine", ["never-started"], "/health"),
                LogFile(tmp_path / "chat-0.log"),
                client,
                on_change=lambda: None,
                on_move=lambda: None,
                taken=set,
            )

        one, other = keeper(), keeper()
        assert one.port != other.port
        await one.stop()
        await other.stop()


def test_another_start_does_not_choose_a_port_that_is_spoken_for() -> None:
    mine = choose_port(set())
    program = OTHER_START.format(taken=mine + 1, preferred=mine)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        assert theirs not in (mine, mine + 1)
        assert choose_port(set(), [theirs]) != theirs
        other.communicate(b"\n")
    assert choose_port(set(), [theirs]) == theirs  # it was theirs as long as they lived


def test_that_no_port_is_left_is_a_sentence() -> None:
    with pytest.raises(CommandError, match="no port from 8100 to 8999 is free: stop what listens"):
        choose_port({*range(8100, 9000)})


@pytest.mark.parametrize("host", ["nonsense.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_no_busy_port(tmp_path: Path, host: str) -> None:
    with pytest.raises(WrongUse, match=f"--host is '{host}', which is no address of this machine"):
        refuse_busy_port(host, free_port(), Home(tmp_path))
