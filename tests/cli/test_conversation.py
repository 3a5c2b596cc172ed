"""`sage chat` before a server that answers as it is told: what it sends, and when it shows what."""

import shlex
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from client_server import Reply, ScriptedServer, delta, error_reply, events, scripted
from sage_command import PROGRAM, Sage, Terminal, terminal

pytestmark = pytest.mark.timeout(120)

PROMPT = "> "


def answer(*words: str) -> Reply:
    """A stream of these pieces."""
    *first, last = words
    return Reply(pieces=events(*map(delta, first), delta(last, finish_reason="stop")))


@contextmanager
def conversation(sage: Sage, server: ScriptedServer, *options: str) -> Iterator[Terminal]:
    """`sage chat` on a terminal, from its first prompt on."""
    with terminal(sage, "chat", f"--base-url={server.url}", "--model=m", *options) as screen:
        screen.read_until(PROMPT)
        yield screen


def say(screen: Terminal, words: str, until: str = PROMPT) -> str:
    """Type a line. Returns what is shown until those words have come after it."""
    screen.text = ""
    screen.type(f"{words}\n")
    screen.read_until(f"{words}\r\n")
    screen.text = screen.text.partition(f"{words}\r\n")[2]
    screen.read_until(until)
    return screen.text


def sent(server: ScriptedServer) -> list[list[str]]:
    """Who said what, request by request."""
    return [
        [f"{m['role']}: {m['content']}" for m in got.body["messages"]] for got in server.received
    ]


def test_every_question_carries_the_conversation_before_it(sage: Sage) -> None:
    with (
        scripted(answer("o", "ne"), answer("two"), answer("three")) as server,
        conversation(sage, server, "--system=Be brief.") as screen,
    ):
        assert say(screen, "first").startswith("one\r\n")
        say(screen, "second")
        say(screen, "/new")
        say(screen, "third")
    assert sent(server) == [
        ["system: Be brief.", "user: first"],
        ["system: Be brief.", "user: first", "assistant: one", "user: second"],
        ["system: Be brief.", "user: third"],
    ]


def test_what_was_not_answered_is_forgotten(sage: Sage) -> None:
    with (
        scripted(error_reply(400, "too long"), answer("yes")) as server,
        conversation(sage, server) as screen,
    ):
        assert "sage: too long" in say(screen, "first")
        say(screen, "second")
    assert sent(server) == [["user: first"], ["user: second"]]


def test_ctrl_c_stops_an_answer_and_not_the_conversation(sage: Sage) -> None:
    endless = Reply(pieces=events(delta("and so on"), done=False), ends="open")
    with scripted(endless, answer("yes")) as server, conversation(sage, server) as screen:
        say(screen, "first", until="and so on")
        screen.type("\x03")
        screen.read_until("(stopped)")
        screen.read_until(PROMPT)
        assert server.disconnected.wait(10)
        say(screen, "second")
        screen.type("/quit\n")
        assert screen.process.wait(20) == 0
    assert sent(server)[-1] == ["user: second"]


def test_a_key_that_is_not_taken_ends_the_conversation(sage: Sage) -> None:
    with (
        scripted(error_reply(401, "who are you?")) as server,
        conversation(sage, server) as screen,
    ):
        screen.type("first\n")
        screen.read_until("wants an API key: give one with --api-key or SAGE_UNIFIED_API_KEY")
        assert screen.process.wait(20) == 2


def test_in_a_pipe_are_the_answers_alone(sage: Sage, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with scripted(answer("one"), answer("two")) as server:
        command = f"{shlex.join(PROGRAM)} chat --base-url={server.url} --model=m | cat > {out}"
        with terminal(sage, program=["/bin/bash", "-c", command]) as screen:
            for question in ("first", "second"):
                screen.read_until(PROMPT)
                screen.text = ""
                screen.type(f"{question}\n")
            screen.read_until(PROMPT)
            screen.type("\x04")
            assert screen.process.wait(20) == 0
    assert out.read_text() == "one\ntwo\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_first_words_are_shown_before_the_last_are_made(sage: Sage, is_terminal: bool) -> None:
    go_on = threading.Event()
    pieces = answer("first ", "last").pieces
    with scripted(Reply(pieces=pieces, between=lambda: go_on.wait(30))) as server:
        words = ["chat", "Hello", f"--base-url={server.url}", "--model=m"]
        if is_terminal:
            with terminal(sage, *words) as screen:
                screen.read_until("first ")
                assert "last" not in screen.text
                go_on.set()
                screen.read_until("last")
                assert screen.process.wait(20) == 0
            return
        with subprocess.Popen(
            [*PROGRAM, *words], env=sage.env(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            assert process.stdout.read(6) == b"first "
            go_on.set()
            assert process.stdout.read() == b"last\n"
            assert process.wait(20) == 0


def test_what_options_say_is_sent(sage: Sage) -> None:
    with scripted(answer("yes")) as server:
        ended = sage.run(
            "chat",
            "Hello",
            f"--base-url={server.url}",
            "--api-key=sk-alice",
            "--model=m",
            "--temperature=0",
            "--max-tokens=7",
        )
    assert (ended.code, ended.out, ended.err) == (0, "yes\n", "")
    (got,) = server.received
    assert got.headers["authorization"] == "Bearer sk-alice"
    asked: dict[str, Any] = got.body
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("m", 0, 7)


def test_an_answer_that_breaks_off_is_shown_and_is_exit_code_1(sage: Sage) -> None:
    broken = Reply(pieces=events(delta("half of"), done=False), ends="broken")
    with scripted(broken) as server:
        ended = sage.run("chat", "Hello", f"--base-url={server.url}", "--model=m")
    assert (ended.code, ended.out) == (1, "half of")
    assert ended.err.startswith("sage: ")
    assert ended.err.count("\n") == 1


def test_a_model_is_the_first_that_can_chat(sage: Sage) -> None:
    models = Reply(
        body={"data": [{"id": "e", "role": "embedding"}, {"id": "m", "role": "llm", "ready": True}]}
    )
    with scripted(answer("yes"), models=models) as server:
        assert sage.run("chat", "Hello", f"--base-url={server.url}").code == 0
    assert server.received[0].body["model"] == "m"
