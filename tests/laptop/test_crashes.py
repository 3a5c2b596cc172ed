"""What crashes is started again, and what was killed leaves nothing that confuses."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import openai
import pytest

from sage_command import (
    Sage,
    kill,
    part_of,
    pids_of,
    until_gone,
)

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("part", ["chat-0", "router"])
def test_a_part_that_crashes_is_started_again(sage: Sage, pool_file: Path, part: str) -> None:
    with sage.pool(pool_file):
        before = pids_of(sage.status())
        kill(before[part])
        sage.until(lambda s: part_of(s, part)["restarts"] == 1)
        status = sage.until(lambda s: s["outcome"] == "ready")
        after = pids_of(status)
        assert after[part] != before[part]
        assert {k: v for k, v in after.items() if k != part} == {
            k: v for k, v in before.items() if k != part
        }


def test_an_engine_whose_port_was_taken_moves(sage: Sage, pool_file: Path) -> None:
    with sage.pool(pool_file) as port:
        status = sage.status()
        kill(pids_of(status)["chat-0"])
        taken = int(part_of(status, "chat-0")["url"].rpartition(":")[2])
        with _taken(taken):
            sage.until(lambda s: part_of(s, "chat-0")["url"] != part_of(status, "chat-0")["url"])
            sage.until(lambda s: s["outcome"] == "ready")
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
            with client:
                answer = client.chat.completions.create(
                    model="chat-model", messages=[{"role": "user", "content": "Hi"}]
                )
            assert answer.choices[0].message.content


def _taken(port: int) -> socket.socket:
    """Take the port as soon as it is free."""
    end = time.monotonic() + 10
    while True:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            assert time.monotonic() < end


def test_a_killed_supervisor_takes_its_processes_along(sage: Sage, pool_file: Path) -> None:
    with sage.pool(pool_file):
        pids = pids_of(sage.status())
        kill(_record(sage)["supervisor"]["pid"])
        until_gone(pids)
        ended = sage.run("inference", "status")
        assert (ended.code, "killed" in ended.out) == (1, True)
        with sage.pool(pool_file):
            assert sage.status()["outcome"] == "ready"


def test_a_stale_record_never_ends_another_program(sage: Sage, pool_file: Path) -> None:
    with sage.pool(pool_file):
        record = _record(sage)
        kill(record["supervisor"]["pid"])
        until_gone(pids_of(record | {"parts": [p | p["process"] for p in record["parts"]]}))
    stranger = os.posix_spawn("/bin/sleep", ["sleep", "60"], {}, setsid=True)
    try:
        for process in (record["supervisor"], *(part["process"] for part in record["parts"])):
            process["pid"] = stranger
        place = sage.home / "pools" / "rag"
        (place / "record.json").write_text(json.dumps(record))
        assert sage.run("inference", "stop").code == 0
        assert os.waitpid(stranger, os.WNOHANG) == (0, 0)
    finally:
        os.kill(stranger, signal.SIGKILL)
        os.waitpid(stranger, 0)


def test_a_record_of_another_boot_is_no_pool(sage: Sage, pool_file: Path) -> None:
    with sage.pool(pool_file):
        record = _record(sage)
        sage.run("inference", "stop")
    for process in (record["supervisor"], *(part["process"] for part in record["parts"])):
        process.update(pid=os.getpid(), boot="11111111-1111-1111-1111-111111111111")
    (sage.home / "pools" / "rag" / "record.json").write_text(json.dumps(record))
    assert sage.status()["outcome"] == "killed"
    with sage.pool(pool_file):
        assert sage.status()["outcome"] == "ready"


def _record(sage: Sage) -> dict:
    return json.loads((sage.home / "pools" / "rag" / "record.json").read_text())
