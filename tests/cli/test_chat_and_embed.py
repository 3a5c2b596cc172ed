"""`sage chat`, `sage embed`, `sage doctor` over a pool that runs on this machine."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sage_command import PROGRAM, Sage, free_port, terminal, write_pool
from sagepool.cli.servers import open_client
from sagepool.errors import ConfigurationError

pytestmark = pytest.mark.timeout(120)

KEY = "sk-5f0c2a8e94d1b7360e9f"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sage]:
    folder = tmp_path_factory.mktemp("pool")
    sage = Sage(folder / "home")
    with sage.pool(write_pool(folder / "pool.yaml")):
        yield sage


@pytest.fixture
def sage(home: Sage) -> Sage:
    """The command on a machine on which one pool runs."""
    return home


def test_one_question_is_answered_and_ends(sage: Sage) -> None:
    ended = sage.run("chat", "Hello", "--max-tokens=3")
    assert (ended.code, ended.err) == (0, "")
    assert len(ended.out.split()) == 3


def test_a_question_comes_through_a_pipe(sage: Sage) -> None:
    ended = sage.run("chat", "--max-tokens=2", "--model=chat-model", stdin="Hello\n")
    assert (ended.code, len(ended.out.split())) == (0, 2)
    assert "\x1b" not in ended.out


def test_an_empty_pipe_is_wrong_use(sage: Sage) -> None:
    ended = sage.run("chat")
    assert (ended.code, ended.out) == (2, "")
    assert "there is no question" in ended.err


def test_a_model_that_is_not_there_names_those_that_are(sage: Sage) -> None:
    ended = sage.run("chat", "Hello", "--model=other")
    assert (ended.code, ended.out) == (3, "")
    assert "chat-model" in ended.err
    assert ended.err.count("\n") == 1


def test_a_conversation_goes_on_until_it_is_left(sage: Sage) -> None:
    with terminal(sage, "chat", "--max-tokens=2") as screen:
        screen.read_until("> ")
        screen.type("Hello\n")
        for words in ("again\n", "/new\n", "\n"):
            screen.text = ""
            screen.read_until("> ")
            screen.type(words)
        screen.text = ""
        screen.read_until("> ")
        screen.type("\x04")
        assert screen.process.wait(20) == 0


def test_a_conversation_survives_what_the_server_refuses(sage: Sage) -> None:
    with terminal(sage, "chat", "--model=other") as screen:
        screen.read_until("> ")
        screen.type("Hello\n")
        screen.read_until("chat-model")
        screen.text = ""
        screen.type("/quit\n")
        assert screen.process.wait(20) == 0


def test_texts_become_json_lines_in_their_order(sage: Sage) -> None:
    texts = [f"text {number}" for number in range(70)]
    ended = sage.run("embed", "--batch=8", stdin="\n\n".join(texts) + "\n")
    assert (ended.code, ended.err) == (0, "")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["text"] for line in lines] == texts
    assert [line["index"] for line in lines] == list(range(70))
    alone = json.loads(sage.run("embed", stdin=texts[42]).out)
    assert lines[42]["embedding"] == pytest.approx(alone["embedding"])


def test_fields_of_json_lines_are_kept_and_the_text_can_be_left_out(
    sage: Sage, tmp_path: Path
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"id": "a", "text": "one"}\n"two"\n')
    ended = sage.run("embed", str(file), "--no-with-text")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [sorted(line) for line in lines] == [
        ["embedding", "id", "index"],
        ["embedding", "index"],
    ]
    assert lines[0]["id"] == "a"


@pytest.mark.parametrize(
    ("content", "says"),
    [("{", "line 1 is not JSON"), ('"a"\n{"id": 1}', "line 2 is no text: write a JSON text")],
)
def test_a_line_that_is_no_text_is_named(
    sage: Sage, tmp_path: Path, content: str, says: str
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(content)
    ended = sage.run("embed", str(file))
    assert ended.code == 2
    assert f"{file} {says}" in ended.err


@pytest.mark.parametrize("command", [["embed"], ["chat"]])
def test_a_pipe_that_is_no_text_is_wrong_use(sage: Sage, command: list[str]) -> None:
    done = subprocess.run(
        [*PROGRAM, *command], input=b"\xff\xfe", env=sage.env(), capture_output=True, timeout=45
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is not UTF-8: convert it first" in done.stderr


def test_standard_input_and_pipes_are_read_among_files(sage: Sage, tmp_path: Path) -> None:
    file = tmp_path / "in.txt"
    file.write_text("one\n")
    read, write = os.pipe()
    os.write(write, b"three\n")
    os.close(write)
    with os.fdopen(read):
        done = subprocess.run(
            [*PROGRAM, "embed", str(file), "-", f"/dev/fd/{read}"],
            input=b"two\n",
            env=sage.env(),
            capture_output=True,
            timeout=45,
            pass_fds=[read],
        )
    assert (done.returncode, done.stderr) == (0, b"")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["index"], line["text"]) for line in lines] == [
        (0, "one"),
        (1, "two"),
        (2, "three"),
    ]


def test_a_folder_is_wrong_use(sage: Sage, tmp_path: Path) -> None:
    ended = sage.run("embed", str(tmp_path), "--base-url=http://127.0.0.1:9/v1")
    assert (ended.code, ended.err) == (2, f"sage: {tmp_path} is a folder: name its files\n")


def test_a_file_that_is_missing_is_said_before_a_server_is_asked(sage: Sage) -> None:
    ended = sage.run("embed", "none.txt", "--base-url=http://127.0.0.1:9/v1")
    assert (ended.code, ended.err) == (3, "sage: there is no file none.txt\n")


def test_a_server_that_does_not_answer_is_a_sentence(sage: Sage) -> None:
    ended = sage.run("chat", "Hello", "--base-url=http://127.0.0.1:9/v1")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("\n") == 1


def test_ctrl_c_ends_a_call_that_is_not_answered(sage: Sage) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        at = f"--base-url=http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with subprocess.Popen(
            [*PROGRAM, "embed", "--model=m", at],
            env=sage.env(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            process.stdin.write(b"one text\n")
            process.stdin.close()
            silent.settimeout(20)
            connection, _ = silent.accept()
            with connection:
                connection.settimeout(20)
                assert connection.recv(65536).startswith(b"POST /v1/embeddings")
                process.send_signal(signal.SIGINT)
                assert process.wait(10) == 130


def test_the_unified_key_is_not_for_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Mapping[str, str]] = []

    def detect(environ: Mapping[str, str]) -> None:
        seen.append(environ)
        raise ConfigurationError("nothing is here")

    monkeypatch.setattr("sagepool.detection.detect", detect)
    monkeypatch.setenv("SAGE_UNIFIED_API_KEY", KEY)
    monkeypatch.delenv("SAGEPOOL_API_KEY", raising=False)
    with pytest.raises(ConfigurationError), open_client("", "", "", "", ""):
        pytest.fail("there is no server")
    (environ,) = seen
    assert environ["SAGEPOOL_API_KEY"] == ""


def test_two_servers_are_one_too_many(sage: Sage) -> None:
    ended = sage.run("chat", "Hello", "--base-url=http://a/v1", "--pool=rag")
    assert (ended.code, "not both" in ended.err) == (2, True)


def test_two_pools_are_not_guessed_at(sage: Sage, tmp_path: Path) -> None:
    second = tmp_path / "second.yaml"
    port = free_port()
    start = ("inference", "start", "-b", f"-f{write_pool(second, 'second')}", f"-p{port}")
    assert sage.run(*start).code == 0
    try:
        ended = sage.run("chat", "Hello")
        assert (ended.code, ended.out) == (2, "")
        assert f"second at http://127.0.0.1:{port}" in ended.err
        assert "(sage: --base-url) or in SAGE_UNIFIED_BASE_URL" in ended.err
        named = sage.run("chat", "Hello", "--max-tokens=1", f"--base-url=http://127.0.0.1:{port}")
        assert (named.code, named.err) == (0, "")
    finally:
        sage.run("inference", "stop", "second")


def test_a_pool_that_wants_a_key_gets_it_by_option_or_variable(tmp_path: Path) -> None:
    sage = Sage(tmp_path / "home")
    keys = sage.home / "secrets" / "keys"
    keys.mkdir(parents=True, mode=0o700)
    (keys / "alice").write_text(KEY)
    router = {"auth": {"apiKeysSecret": "keys"}}
    with sage.pool(write_pool(tmp_path / "pool.yaml", router=router)) as port:
        without = sage.run("chat", "Hello")
        assert (without.code, without.out) == (2, "")
        assert "wants an API key: set SAGEPOOL_API_KEY to one of those in" in without.err
        assert str(sage.home / "secrets") in without.err
        assert sage.run("chat", "Hello", f"--api-key={KEY}").code == 0
        variable = Sage(sage.home, {"SAGEPOOL_API_KEY": KEY})
        assert variable.run("embed", stdin="text").code == 0
        at = f"--base-url=http://127.0.0.1:{port}/v1"
        assert "wants an API key: give one with --api-key" in sage.run("chat", "Hello", at).err
        assert sage.run("chat", "Hello", at, "--api-key=sk-bob").code == 2


def test_a_bar_is_shown_on_a_terminal_when_vectors_go_elsewhere(sage: Sage, tmp_path: Path) -> None:
    file = tmp_path / "in.txt"
    file.write_text("one\ntwo\n")
    shell = f"exec {' '.join(PROGRAM)} embed {file} > {tmp_path / 'out'}"
    with terminal(sage, program=["/bin/sh", "-c", shell]) as screen:
        screen.read_until("2/2")
        assert screen.process.wait(20) == 0
    assert len((tmp_path / "out").read_text().splitlines()) == 2


def test_the_doctor_sees_the_pool_and_says_what_is_absent(sage: Sage, tmp_path: Path) -> None:
    there = Sage(sage.home, {"HOME": str(tmp_path)})
    ended = there.run("doctor", "-o", "json")
    found = {finding["check"]: finding for finding in json.loads(ended.out)}
    assert found["pool rag here"]["verdict"] == "ok"
    assert "(pool rag here)" in found["clients"]["message"]
    assert found["sagepool-router"]["verdict"] == "ok"
    assert found["cluster"]["verdict"] == "absent"
    assert ended.code == 0
    assert there.run("doctor").out.splitlines()[0].split() == ["CHECK", "FOUND"]
