"""A pool on this machine with an engine that runs elsewhere: ready is what answers."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from sage_command import Sage, free_port, part_of, terminal
from sagepool.laptop.elsewhere import awaited

pytestmark = pytest.mark.timeout(120)


@contextmanager
def engine(port: int) -> Iterator[None]:
    """An engine that is nobody's child here."""
    command = [sys.executable, "-m", "sagepool_simulator.cli", "serve", "--host=127.0.0.1"]
    process = subprocess.Popen(
        [*command, f"--port={port}", "--model=chat-model=llm"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_an_engine_that_runs_already_is_used_by_its_url(sage: Sage, pool_file: Path) -> None:
    other = Sage(sage.home.with_name("other"))
    with other.pool(pool_file):
        url = part_of(other.status(), "chat-0")["url"]
        port = free_port()
        ended = sage.run(
            "inference", "start", "-b", f"-p{port}", "-lchat-model", f"--llm-backend={url}/v1"
        )
        try:
            assert ended.code == 0, ended
            assert [part["name"] for part in sage.status()["parts"]] == [
                "router",
                "chat-elsewhere",
            ]
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
            with client:
                answer = client.chat.completions.create(
                    model="chat-model", messages=[{"role": "user", "content": "Hi"}]
                )
            assert answer.choices[0].message.content
        finally:
            sage.run("inference", "stop")


def test_a_start_waits_for_the_engine_elsewhere_and_says_what_keeps_it(
    sage: Sage, pool_file: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ("inference", "start", f"-f{pool_file}", f"-p{free_port()}", f"--llm-backend={url}")
    with terminal(sage, *words) as started:
        # the live table breaks long lines: what it says is asked for in the status
        started.read_until("chat-elsewhere")
        waiting = sage.until(
            lambda s: "cannot be reached" in part_of(s, "chat-elsewhere")["message"]
        )
        assert waiting["outcome"] == "starting"
        assert part_of(waiting, "embed-0")["phase"] in ("starting", "ready")
        with engine(port):
            started.read_until("pool rag answers")
            part = part_of(sage.status(), "chat-elsewhere")
            assert (part["phase"], part["models"], part["url"]) == ("ready", ["chat-model"], url)
            assert (part["pid"], part["in_flight"]) == (None, 0)


ELSEWHERE: dict[str, Any] = {
    "kind": "InferenceInstance",
    "metadata": {"name": "far"},
    "spec": {
        "engine": "vllm",
        "endpoints": [{"role": "llm", "url": "http://far:8000", "models": ["chat-model"]}],
    },
}


@pytest.mark.parametrize(
    ("pool", "instance", "names"),
    [
        ({}, {}, ["far"]),
        ({"source": "auto"}, {}, ["far"]),
        ({}, {"drain": True}, []),
        ({"suspend": True}, {}, []),
        ({"source": "cloud"}, {}, []),
    ],
)
def test_only_engines_that_should_answer_are_waited_for(
    pool: dict[str, Any], instance: dict[str, Any], names: list[str]
) -> None:
    documents = [
        {"kind": "InferencePool", "metadata": {"name": "rag"}, "spec": pool},
        {**ELSEWHERE, "spec": {**ELSEWHERE["spec"], **instance}},
    ]
    assert [part.name for part in awaited(documents)] == names


def test_a_pool_is_degraded_while_its_engine_elsewhere_is_away(sage: Sage, pool_file: Path) -> None:
    port = free_port()
    running = ExitStack()
    running.enter_context(engine(port))
    with running, sage.pool(pool_file, f"--llm-backend=http://LOCALHOST:{port}/"):
        assert sage.run("inference", "status").code == 0
        part = part_of(sage.status(), "chat-elsewhere")
        assert (part["in_flight"], part["capacity"] > 0) == (0, True)
        running.close()
        broken = sage.until(lambda status: status["outcome"] == "degraded")
        part = part_of(broken, "chat-elsewhere")
        assert part["phase"] == "broken"
        assert "cannot be reached" in part["message"]
        assert sage.run("inference", "status").code == 1
        with engine(port):
            sage.until(lambda status: status["outcome"] == "ready")
