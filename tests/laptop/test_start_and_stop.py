"""`sage inference` with real processes: what starts answers, what stops is gone."""

import shlex
import socket
import subprocess
from pathlib import Path

import openai
import pytest

from sage_command import (
    PROGRAM,
    Sage,
    free_port,
    part_of,
    pids_of,
    simulated,
    until_gone,
    write_pool,
)

pytestmark = pytest.mark.timeout(120)


def test_the_openai_client_is_answered_by_chat_and_embeddings(sage: Sage, pool_file: Path) -> None:
    with sage.pool(pool_file) as port:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        with client:
            stream = client.chat.completions.create(
                model="chat-model", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
            vectors = client.embeddings.create(model="embed-model", input=["one", "two"]).data
            assert [vector.index for vector in vectors] == [0, 1]


def test_an_adapter_is_a_model_from_the_start_on(sage: Sage, tmp_path: Path) -> None:
    adapters = [{"name": "bot", "uri": "hf://acme/bot"}]
    chat = simulated("chat", "llm", "chat-model", adapters=adapters)
    with sage.pool(write_pool(tmp_path / "pool.yaml", groups=[chat])) as port:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        with client:
            found = {m.id: (m.model_extra or {})["parent"] for m in client.models.list()}
            assert found == {"chat-model": None, "bot": "chat-model"}
            answer = client.chat.completions.create(
                model="bot", messages=[{"role": "user", "content": "Hi"}]
            )
            assert answer.model == "bot"


def test_status_tells_every_part_and_its_load(sage: Sage, pool_file: Path) -> None:
    with sage.pool(pool_file) as port:
        status = sage.status()
        assert status["outcome"] == "ready"
        assert status["address"] == f"http://127.0.0.1:{port}"
        assert [part["name"] for part in status["parts"]] == ["router", "chat-0", "embed-0"]
        chat = part_of(status, "chat-0")
        assert (chat["models"], chat["in_flight"], chat["capacity"]) == (["chat-model"], 0, 256)
        table = sage.run("inference", "status")
        assert (table.code, table.err) == (0, "")
        assert "\x1b" not in table.out
        assert table.out.splitlines()[1].split()[:3] == ["PART", "MODELS", "PHASE"]


def test_status_counts_a_request_as_long_as_it_is_answered(sage: Sage, tmp_path: Path) -> None:
    engine = {"type": "simulator", "args": ["--itl-ms=1000"]}
    chat = simulated("chat", "llm", "chat-model", engine=engine)
    with sage.pool(write_pool(tmp_path / "pool.yaml", groups=[chat])) as port:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        with client:
            stream = client.chat.completions.create(
                model="chat-model",
                messages=[{"role": "user", "content": "Hi"}],
                max_tokens=1000,
                stream=True,
            )
            with stream:
                next(stream)
                assert part_of(sage.status(), "chat-0")["in_flight"] == 1
        sage.until(lambda status: part_of(status, "chat-0")["in_flight"] == 0)


def test_stop_leaves_no_process_no_port_and_no_record(sage: Sage, pool_file: Path) -> None:
    with sage.pool(pool_file) as port:
        pids = pids_of(sage.status())
        ended = sage.run("inference", "stop")
        assert (ended.code, ended.out) == (0, "pool rag is stopped\n")
        until_gone(pids, 0)
        with socket.create_server(("127.0.0.1", port)):
            pass
    assert sage.run("inference", "status").code == 3
    left = {path.name for path in (sage.home / "pools" / "rag").iterdir()}
    assert left == {"lock", "logs"}


def test_stop_and_status_without_a_pool_are_exit_code_3(sage: Sage) -> None:
    for command in ("stop", "status", "restart", "logs"):
        ended = sage.run("inference", command)
        assert (ended.code, ended.out) == (3, "")
        assert ended.err.startswith("sage: no pool runs here")


def test_a_second_start_is_refused(sage: Sage, pool_file: Path) -> None:
    with sage.pool(pool_file):
        pids = pids_of(sage.status())
        ended = sage.run("inference", "start", "-b", f"-f{pool_file}", f"-p{free_port()}")
        assert ended.code == 1
        assert "pool rag runs already" in ended.err
        assert pids_of(sage.status()) == pids


def test_a_start_without_standard_streams_is_a_start_as_any(sage: Sage, pool_file: Path) -> None:
    port = free_port()
    words = [*PROGRAM, "inference", "start", "-b", f"-f{pool_file}", f"-p{port}"]
    subprocess.run(
        f"{shlex.join(words)} <&- >&- 2>&-", shell=True, env=sage.env(), timeout=60, check=True
    )
    try:
        assert sage.status()["outcome"] == "ready"
        second = sage.run("inference", "start", "-b", f"-f{pool_file}", f"-p{free_port()}")
        assert "pool rag runs already" in second.err
    finally:
        assert sage.run("inference", "stop").code == 0


def test_a_busy_port_is_said_before_anything_starts(sage: Sage, pool_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = sage.run("inference", "start", "-b", f"-f{pool_file}", f"-p{port}")
    assert ended.code == 1
    assert f"port {port} of 127.0.0.1 is taken by another program" in ended.err
    assert not sage.home.exists()


def test_two_pools_run_side_by_side_and_stop_alone(sage: Sage, tmp_path: Path) -> None:
    first, second = write_pool(tmp_path / "a.yaml", "a"), write_pool(tmp_path / "b.yaml", "b")
    with sage.pool(first) as port, sage.pool(second):
        busy = sage.run("inference", "start", f"-f{write_pool(tmp_path / 'c', 'c')}", f"-p{port}")
        assert f"port {port} is taken by your pool a" in busy.err
        unnamed = sage.run("inference", "stop")
        assert (unnamed.code, "name one of a, b" in unnamed.err) == (2, True)
        logs = sage.run("inference", "logs")
        assert (logs.code, "give --pool one of a, b" in logs.err) == (2, True)
        pids = pids_of(sage.status("a"))
        urls = [p["url"] for name in "ab" for p in sage.status(name)["parts"]]
        assert len(set(urls)) == len(urls)
        assert sage.run("inference", "stop", "b").code == 0
        assert pids_of(sage.status("a")) == pids
        assert sage.status("a")["outcome"] == "ready"


def test_two_homes_run_the_same_pool(tmp_path: Path, pool_file: Path) -> None:
    with Sage(tmp_path / "x").pool(pool_file), Sage(tmp_path / "y").pool(pool_file):
        assert Sage(tmp_path / "x").status()["outcome"] == "ready"
        assert Sage(tmp_path / "y").status()["outcome"] == "ready"


def test_pools_that_start_at_the_same_time_take_no_port_from_each_other(
    tmp_path: Path, pool_file: Path
) -> None:
    sages = [Sage(tmp_path / name) for name in "xyz"]
    ports = [free_port() for _ in sages]
    starts = [
        subprocess.Popen(
            [*PROGRAM, "inference", "start", "-b", f"-f{pool_file}", f"-p{port}"],
            env=sage.env(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        for sage, port in zip(sages, ports, strict=True)
    ]
    try:
        said = [start.communicate(timeout=60)[1].decode() for start in starts]
        assert [start.returncode for start in starts] == [0, 0, 0], said
        parts = [part for sage in sages for part in sage.status()["parts"]]
        assert [part["restarts"] for part in parts] == [0] * len(parts)
        assert len({part["url"] for part in parts}) == len(parts)
    finally:
        for sage in sages:
            sage.run("inference", "stop")


def test_a_part_that_never_starts_ends_the_start_with_its_last_words(
    sage: Sage, tmp_path: Path
) -> None:
    engine = {"type": "simulator", "args": ["--no-such-flag"]}
    path = write_pool(tmp_path / "p", groups=[simulated("chat", "llm", "m", engine=engine)])
    ended = sage.run("inference", "start", "-b", f"-f{path}", f"-p{free_port()}")
    assert ended.code == 1
    assert "chat-0 did not start: it ended with exit code 2" in ended.err
    assert "unrecognized arguments: --no-such-flag" in ended.err
    status = sage.status()
    assert (status["outcome"], status["parts"]) == ("failed", [])
    assert sage.run("inference", "stop").code == 0


def test_a_start_that_takes_too_long_is_stopped(sage: Sage, tmp_path: Path) -> None:
    engine = {"type": "simulator", "args": ["--load-seconds=600"]}
    path = write_pool(tmp_path / "p", groups=[simulated("chat", "llm", "m", engine=engine)])
    ended = sage.run("inference", "start", "-b", f"-f{path}", f"-p{free_port()}", "--timeout=2")
    assert ended.code == 1
    assert "pool rag was not ready after 2 s (" in ended.err
    assert "chat-0: starting): it was stopped; give it more with --timeout" in ended.err
    assert sage.run("inference", "status").code == 3


def test_restart_reads_the_file_anew(sage: Sage, pool_file: Path) -> None:
    with sage.pool(pool_file) as port:
        write_pool(pool_file, groups=[simulated("chat", "llm", "new-model", replicas=2)])
        ended = sage.run("inference", "restart")
        assert ended.code == 0, ended
        status = sage.status()
        assert status["address"] == f"http://127.0.0.1:{port}"
        assert [part["name"] for part in status["parts"]] == ["router", "chat-0", "chat-1"]
        assert part_of(status, "chat-1")["models"] == ["new-model"]


def test_restart_with_a_bad_file_leaves_the_pool_running(sage: Sage, pool_file: Path) -> None:
    with sage.pool(pool_file):
        pids = pids_of(sage.status())
        write_pool(pool_file, source="cloud")
        ended = sage.run("inference", "restart")
        assert ended.code == 2
        assert "source cloud needs a provider" in ended.err
        assert pids_of(sage.status()) == pids


def test_logs_are_told_apart_and_one_can_be_chosen(sage: Sage, pool_file: Path) -> None:
    with sage.pool(pool_file):
        every = sage.run("inference", "logs").out
        assert "==> chat-0 <==" in every
        assert "==> router <==" in every
        one = sage.run("inference", "logs", "router", "-n", "1").out
        assert one.count("\n") == 1
        unknown = sage.run("inference", "logs", "chat-7")
        assert unknown.code == 3
        assert "there are chat-0, embed-0, router, supervisor" in unknown.err
    assert "==> router <==" in sage.run("inference", "logs").out


def test_a_suspended_pool_runs_its_router_alone(sage: Sage, tmp_path: Path) -> None:
    with sage.pool(write_pool(tmp_path / "p", suspend=True)):
        assert [part["name"] for part in sage.status()["parts"]] == ["router"]


def test_flags_make_a_pool(sage: Sage) -> None:
    port = free_port()
    flags = ("-lchat-model", "--llm-backend=simulator", "-eembed", "--embedding-backend=simulator")
    ended = sage.run("inference", "start", "-b", f"-p{port}", "-sfifo", *flags)
    try:
        assert ended.code == 0, ended
        assert [part["name"] for part in sage.status()["parts"]] == ["router", "chat-0", "embed-0"]
        assert "policy: fifo" in sage.run("inference", "config").out
    finally:
        sage.run("inference", "stop")
