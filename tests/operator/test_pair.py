"""Two engines in one container: their program over real processes and sockets."""

import inspect
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from sagepool_operator.programs import pair, pair_health

PYTHON: Final = (sys.executable, "-I", "-S")
ENGINE: Final = Path(__file__).parents[1] / "support" / "small_engine.py"
LIMIT_S: Final = 30.0

pytestmark = pytest.mark.timeout(120)


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < limit, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.02)


class Container:
    """The program, as the kubelet starts it."""

    def __init__(self, log: Path) -> None:
        self.ports = free_ports()
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        chat: tuple[str, ...] = (),
        embedding: tuple[str, ...] = (),
        *,
        start_s: float = 60,
        stop_s: float = 60,
        embedding_program: tuple[str, ...] = (*PYTHON, str(ENGINE)),
    ) -> None:
        first, second = map(str, self.ports)
        command = [
            *(*PYTHON, "-c", inspect.getsource(pair)),
            *(f"http://127.0.0.1:{first}/health", str(start_s), str(stop_s)),
            *(*PYTHON, str(ENGINE), "talker", first, *chat),
            pair.SEPARATOR,
            *(*embedding_program, "embedder", second, *embedding),
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    def until_said(self, line: str) -> None:
        wait_until(lambda: line in self.lines, f"{line} in {self.lines}")

    def until_loaded(self) -> None:
        self.until_said("embedding: embedder has loaded")

    def end(self, port: int, code: int) -> None:
        """Have an engine end by itself."""
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", data=str(code).encode(), timeout=10)

    def code(self) -> int:
        return self.process.wait(LIMIT_S)

    def health(self) -> tuple[int, list[str]]:
        """What the kubelet's probe finds."""
        command = [*PYTHON, "-c", inspect.getsource(pair_health), *map(str, self.ports)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return found.returncode, found.stdout.splitlines()

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    made = Container(tmp_path / "log")
    yield made
    made.kill()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Nobody reaps what has lost its parent where the first process is not made for it.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_embeddings_load_when_chat_has_loaded_and_answers(container: Container) -> None:
    container.start()
    container.until_loaded()
    assert container.lines == ["chat: talker has loaded", "embedding: embedder has loaded"]


def test_embeddings_do_not_load_beside_a_chat_that_is_silent(container: Container) -> None:
    container.start(("silent",), start_s=1)
    code = container.code()
    assert code != 0
    *others, last = container.lines
    assert last.startswith(f"chat: http://127.0.0.1:{container.ports[0]}/health has not answered")
    assert not any(line.startswith("embedding:") for line in others)
    assert "chat: talker is asked to stop" in others


@pytest.mark.parametrize(
    ("culprit", "name", "other"),
    [(0, "chat", "embedding: embedder"), (1, "embedding", "chat: talker")],
    ids=["chat", "embedding"],
)
def test_one_that_ends_takes_the_other_with_it_and_has_the_last_word(
    container: Container, culprit: int, name: str, other: str
) -> None:
    container.start()
    container.until_loaded()
    container.end(container.ports[culprit], 7)
    assert container.code() == 7
    lines = container.lines
    assert f"{other} is asked to stop" in lines
    engine = ("talker", "embedder")[culprit]
    assert lines[-1] == f"{name}: word 39 of {engine}"
    told = lines.index(
        f"{name}: it has ended with code 7; the container starts again with both engines"
    )
    assert lines.index(f"{other} is asked to stop") < told
    assert 1 < len(lines) - told - 1 < 20
    assert sum(map(len, lines[told:])) < 2048


def test_an_end_that_nobody_has_asked_for_is_no_success(container: Container) -> None:
    container.start()
    container.until_loaded()
    container.end(container.ports[1], 0)
    assert container.code() == 1


def test_an_end_by_a_signal_is_told_as_a_shell_does(container: Container) -> None:
    container.start(embedding=("parent",))
    container.until_loaded()
    said = next(line for line in container.lines if "child" in line)
    child = int(said.rpartition(" ")[2])
    os.kill(os.getpgid(child), signal.SIGKILL)  # it leads the session of what it has started
    assert container.code() == 128 + signal.SIGKILL
    wait_until(lambda: not is_alive(child), "what the killed engine had started has ended")


def test_sigterm_reaches_both_and_both_are_waited_for(container: Container) -> None:
    container.start()
    container.until_loaded()
    container.process.send_signal(signal.SIGTERM)
    assert container.code() == 0
    assert {"chat: talker is asked to stop", "embedding: embedder is asked to stop"} <= set(
        container.lines
    )


def test_sigterm_while_chat_loads_starts_no_embeddings(container: Container) -> None:
    container.start(("silent",))
    container.until_said("chat: talker has loaded")
    container.process.send_signal(signal.SIGTERM)
    assert container.code() == 0
    assert not any(line.startswith("embedding") for line in container.lines)


def test_one_that_ignores_sigterm_is_killed_when_its_time_is_over(container: Container) -> None:
    container.start(("deaf",), stop_s=1)
    container.until_loaded()
    container.process.send_signal(signal.SIGTERM)
    assert container.code() == 128 + signal.SIGKILL
    assert "chat: talker is asked to stop" in container.lines


def test_a_program_that_is_not_there_is_named(container: Container) -> None:
    container.start(embedding_program=("/no/such/engine",))
    assert container.code() == 1
    assert container.lines[-1].startswith(
        "embedding: /no/such/engine cannot be started: No such file or directory"
    )
    assert "chat: talker is asked to stop" in container.lines


def test_the_probe_finds_both_well(container: Container) -> None:
    container.start()
    container.until_loaded()
    assert container.health() == (0, [])


def test_the_probe_names_the_one_that_is_not_there(container: Container) -> None:
    container.start()
    container.until_said("chat: talker has loaded")
    wait_until(lambda: container.health()[0] == 0, "both answer")
    os.kill(container.process.pid, signal.SIGSTOP)  # so that it notices nothing meanwhile
    try:
        container.end(container.ports[1], 7)
        code, said = container.health()
    finally:
        os.kill(container.process.pid, signal.SIGCONT)
    assert code == 1
    assert [line.partition(":")[0] for line in said] == ["embedding"]
    assert "refused" in said[0]


def test_kubernetes_reads_no_variables_in_the_programs() -> None:
    """It would put values in the place of `$(NAME)`, and halve `$$`."""
    for module in (pair, pair_health):
        assert "$" not in inspect.getsource(module)
