"""Two users of one machine: their pools do not see, name or stop each other."""

import os
from pathlib import Path

import httpx
import pytest

from sage_command import Sage, is_running, pids_of, until_gone, write_pool

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


def user(number: int, tmp_path: Path) -> Sage:
    """The command as this user runs it, with a home of the user's own."""
    home = tmp_path / f"user-{number}"
    home.mkdir(mode=0o700)
    os.chown(home, number, number)
    # The programs and these folders may lie where root alone may look.
    may_look = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    identity = (f"--reuid={number}", f"--regid={number}", "--clear-groups")
    return Sage(home / ".sage", {"HOME": str(home)}, ("setpriv", *identity, *may_look))


def models_at(port: int) -> list[str]:
    answer = httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=10).json()
    return sorted(model["id"] for model in answer["data"])


def test_pools_of_one_name_of_two_users_live_side_by_side(tmp_path: Path) -> None:
    one, other = user(5001, tmp_path), user(5002, tmp_path)
    file = write_pool(tmp_path / "pool.yaml")
    with one.pool(file) as port, other.pool(file) as others_port:
        mine, theirs = one.status(), other.status()
        for status, number in ((mine, 5001), (theirs, 5002)):
            pids = pids_of(status)
            assert len(pids) == 3
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids.values()} == {number}
        assert (mine["address"], theirs["address"]) == (
            f"http://127.0.0.1:{port}",
            f"http://127.0.0.1:{others_port}",
        )
        urls = [part["url"] for status in (mine, theirs) for part in status["parts"]]
        assert len(set(urls)) == 6

        second = write_pool(tmp_path / "second.yaml", "second")
        ended = other.run("inference", "start", "-b", f"-f{second}", f"-p{port}")
        assert (ended.code, ended.out) == (1, "")
        assert f"port {port} of 127.0.0.1 is taken by another program" in ended.err
        assert "choose another with --port" in ended.err

        ended = other.run("inference", "stop", "--all")
        assert (ended.code, ended.out) == (0, "pool rag is stopped\n")
        assert other.run("inference", "status").code == 3
        until_gone(pids_of(theirs))
        assert all(is_running(pid) for pid in pids_of(mine).values())
        assert one.status()["outcome"] == "ready"
        assert models_at(port) == ["chat-model", "embed-model"]
