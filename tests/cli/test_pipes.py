"""In pipes: who reads late or leaves early, and nothing that only a terminal can show."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_server import Received, Reply, ScriptedServer, scripted
from sage_command import PROGRAM, Sage, free_port, write_pool

pytestmark = pytest.mark.timeout(120)


def vectors(got: Received) -> Reply:
    """An embedding of a thousand figures for each text."""
    data = [{"index": i, "embedding": [0.5] * 1000} for i in range(len(got.body["input"]))]
    return Reply(body={"data": data, "model": "m"})


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted(vectors) as running:
        yield running


def test_a_reader_that_leaves_ends_it_as_it_ends_any_program(
    sage: Sage, server: ScriptedServer, tmp_path: Path
) -> None:
    texts = tmp_path / "texts"
    texts.write_text("one text\n" * 3200)
    embed = f"embed {texts} --model=m --base-url={server.url}"
    ended = sage.shell(f"$sage {embed} | head -n 1; echo ${{PIPESTATUS[0]}}")
    line, code = ended.out.splitlines()
    assert json.loads(line)["text"] == "one text"
    assert (code, ended.err) == ("141", "")
    assert len(server.received) < 100  # the rest was not asked for


@pytest.mark.parametrize("words", ["--help", "inference config -f {file}", "doctor -o json"])
def test_so_does_one_that_never_reads(sage: Sage, tmp_path: Path, words: str) -> None:
    command = words.format(file=write_pool(tmp_path / "pool.yaml"))
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as unread:
        done = subprocess.run(
            [*PROGRAM, *command.split()],
            env=sage.env(),
            stdout=unread,
            stderr=subprocess.PIPE,
            timeout=45,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_progress_of_a_start_is_lines_in_a_pipe(sage: Sage, tmp_path: Path) -> None:
    file = write_pool(tmp_path / "pool.yaml")
    port = free_port()
    ended = sage.run("inference", "start", "-b", f"-f{file}", f"-p{port}")
    sage.run("inference", "stop")
    assert (ended.code, ended.out) == (0, f"pool rag answers at http://127.0.0.1:{port}/v1\n")
    told = ended.err.splitlines()
    assert all(re.fullmatch(r"(router|chat-0|embed-0): \w+( \(.+\))?", line) for line in told)
    for part in ("router", "chat-0", "embed-0"):
        assert [line for line in told if line.startswith(part)][-1] == f"{part}: ready"
    assert len(told) == len(set(told))  # what is new, and that once


def test_a_pipe_shows_no_bar_and_no_colour(
    sage: Sage, server: ScriptedServer, tmp_path: Path
) -> None:
    texts = tmp_path / "texts"
    texts.write_text("one\ntwo\n")
    coloured = Sage(sage.home, {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"})
    ended = coloured.run("embed", str(texts), "--model=m", f"--base-url={server.url}")
    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    for words in ("doctor", "inference --help", "nothing"):
        told = coloured.run(*words.split())
        assert "\x1b" not in told.out + told.err


def test_an_encoding_that_lacks_a_sign_is_said(
    sage: Sage, server: ScriptedServer, tmp_path: Path
) -> None:
    narrow = Sage(sage.home, {"PYTHONIOENCODING": "ascii"})
    texts = tmp_path / "texts"
    texts.write_text("h\u00e9llo\n")
    ended = narrow.run("embed", str(texts), "--model=m", f"--base-url={server.url}")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "sage: the output has signs that ascii lacks, the encoding of this locale: set "
        "LC_ALL=C.UTF-8\n"
    )
