"""`sage` with vLLM on this machine, as a person has it who has installed both."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from e2e_waiting import wait_until
from real_engine_process import START_LIMIT_S
from real_engines import Engines
from real_models import CHAT, EMBEDDING, Models
from real_pair import Pair
from sage_command import Sage, free_port, kill, part_of, until_gone, write_pool
from sagepool.laptop.process import identify, session_members

pytestmark = [pytest.mark.engines, pytest.mark.timeout(2400)]

LIMIT = f"--timeout={START_LIMIT_S}"


@pytest.fixture
def sage(pair: Pair, engines: Engines, models: Models, tmp_path: Path) -> Sage:
    """The command with `vllm` on the PATH and the models in the cache; nothing else runs."""
    pair.stop()
    path = f"{engines.program.parent}:{os.environ['PATH']}"
    return Sage(tmp_path / "home", {**models.environment, "PATH": path})


def ask(base: str, chat: str, text: str | None = None) -> None:
    """See that models answer as they should."""
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none", timeout=60) as client:
        stream = client.chat.completions.create(
            model=chat, messages=[{"role": "user", "content": "hello"}], stream=True, max_tokens=20
        )
        assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
        if text is not None:
            found = client.embeddings.create(model=text, input=["one", "two"]).data
            assert [(entry.index, len(entry.embedding)) for entry in found] == [(0, 384), (1, 384)]


def processes(parts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """All that the parts have started; vLLM is several processes."""
    leaders = [identify(part["pid"]) for part in parts]
    members = [member for leader in leaders if leader for member in session_members(leader)]
    return {str(member.pid): member.pid for member in members}


def test_a_pool_on_vllm_starts_answers_and_leaves_nothing(
    sage: Sage, models: Models, tmp_path: Path
) -> None:
    adapters = [{"name": "bot", "uri": str(models.adapter)}]
    chat = models.group("chat", "llm", CHAT, "--max-model-len=512", adapters=adapters)
    text = models.group("text", "embedding", EMBEDDING)
    path = write_pool(tmp_path / "pool.yaml", groups=[chat, text])
    port = free_port()
    try:
        ended = sage.run(
            "inference",
            "start",
            "-b",
            f"-f{path}",
            f"-p{port}",
            LIMIT,
            timeout_s=START_LIMIT_S + 60,
        )
        assert ended.code == 0, ended
        ask(f"http://127.0.0.1:{port}", "chat", "text")
        ask(f"http://127.0.0.1:{port}", "bot")
        status = sage.status()
        assert {part["name"]: part["phase"] for part in status["parts"]} == {
            "router": "ready",
            "chat-0": "ready",
            "text-0": "ready",
        }
        assert part_of(status, "text-0")["capacity"] > 0
        told = sage.run("embed", f"--base-url={status['address']}/v1", stdin="a quiet hill\n")
        assert len(json.loads(told.out)["embedding"]) == 384, told
        started = processes(status["parts"])
    finally:
        stopped = sage.run("inference", "stop", "--all", timeout_s=120)
    assert stopped.code == 0, stopped
    assert len(started) > len(status["parts"])
    until_gone(started)
    assert sage.run("inference", "status").code == 3


def test_an_engine_that_is_killed_comes_back_and_leaves_no_core(sage: Sage) -> None:
    def part() -> dict[str, Any]:
        (found,) = json.loads(sage.run("llm", "status", "-o", "json").out)
        return part_of(found, "vllm")

    port = free_port()
    command = ("llm", "run", CHAT, "--cpu", "-b", f"-p{port}", LIMIT)
    ended = sage.run(*command, timeout_s=START_LIMIT_S + 60)
    try:
        assert ended.code == 0, ended
        first = processes([part()])
        assert len(first) > 2
        kill(part()["pid"])
        until_gone(first)
        wait_until(lambda: part()["restarts"] == 1, "started again")
        wait_until(lambda: part()["phase"] == "ready", "ready again", START_LIMIT_S)
        ask(f"http://127.0.0.1:{port}", CHAT)
        second = processes([part()])
    finally:
        stopped = sage.run("llm", "stop", timeout_s=120)
    assert stopped.code == 0, stopped
    until_gone(second)
