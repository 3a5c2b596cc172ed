"""The command `sage` as people run it: a process with a home, pipes or a terminal of its own."""

import json
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PROGRAM = [sys.executable, "-m", "sagepool.cli"]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Sage:
    """The command with a home of its own."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    """A command that runs it, for example as somebody else."""

    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SAGE", "KUBECONFIG"))}
        return {**kept, "SAGE_HOME": str(self.home), **self.environment}

    def run(self, *arguments: str, stdin: str = "", timeout_s: float = 45) -> Ended:
        """Run to the end, over pipes."""
        done = subprocess.run(
            [*self.prefix, *PROGRAM, *arguments],
            input=stdin,
            env=self.env(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def shell(self, command: str) -> Ended:
        """What bash makes of a command line; `$sage` is the command."""
        done = subprocess.run(
            ["/bin/bash", "-c", f"sage={shlex.quote(shlex.join(PROGRAM))}\n{command}"],
            env=self.env(),
            capture_output=True,
            text=True,
            timeout=45,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def status(self, *arguments: str) -> dict[str, Any]:
        """`sage inference status --json` of the only pool."""
        found = json.loads(self.run("inference", "status", "--json", *arguments).out)
        assert len(found) == 1
        status: dict[str, Any] = found[0]
        return status

    def until(self, claim: Callable[[dict[str, Any]], bool], limit_s: float = 30) -> dict[str, Any]:
        """Ask for the status until it is as claimed."""
        end = time.monotonic() + limit_s
        while True:
            status = self.status()
            if claim(status):
                return status
            assert time.monotonic() < end, status
            time.sleep(0.1)

    @contextmanager
    def pool(self, path: Path, *arguments: str) -> Iterator[int]:
        """A pool in the background, from when it is ready; the port of its router."""
        port = free_port()
        ended = self.run("inference", "start", "-b", f"-f{path}", f"-p{port}", *arguments)
        try:
            assert ended.code == 0, ended
            yield port
        finally:
            self.run("inference", "stop", "--all")


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, sage: Sage, *arguments: str, program: Sequence[str] = PROGRAM) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*program, *arguments],
            env={**sage.env(), "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self.text = ""

    def read_until(self, words: str, limit_s: float = 30) -> None:
        """Read until the words have come."""
        os.set_blocking(self.master, False)
        end = time.monotonic() + limit_s
        while words not in self.text:
            assert time.monotonic() < end, self.text
            with suppress(BlockingIOError):
                try:
                    self.text += os.read(self.master, 65536).decode(errors="replace")
                except OSError as error:
                    if isinstance(error, BlockingIOError):
                        raise
                    assert words in self.text, self.text
            time.sleep(0.02)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def hang_up(self) -> None:
        """Close the terminal's window."""
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.master >= 0:
            os.close(self.master)


def _take_terminal() -> None:
    """Make standard input the controlling terminal, so that Ctrl-C and a hang-up arrive."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(sage: Sage, *arguments: str, program: Sequence[str] = PROGRAM) -> Iterator[Terminal]:
    """A command on a pseudo-terminal while inside."""
    opened = Terminal(sage, *arguments, program=program)
    try:
        yield opened
    finally:
        opened.close()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def write_pool(path: Path, name: str = "rag", **spec: Any) -> Path:
    """A pool file: a chat engine and an embedding engine on the simulator."""
    groups = [
        simulated("chat", "llm", "chat-model"),
        simulated("embed", "embedding", "embed-model"),
    ]
    pool = {
        "apiVersion": "sagepool.dev/v1alpha1",
        "kind": "InferencePool",
        "metadata": {"name": name},
        "spec": {"groups": groups, **spec},
    }
    path.write_text(yaml.safe_dump(pool))
    return path


def simulated(name: str, role: str, model: str, **fields: Any) -> dict[str, Any]:
    """A group on the simulator."""
    engine = {"type": "simulator"}
    return {"name": name, "role": role, "engine": engine, "model": {"name": model}, **fields}


def pids_of(status: Mapping[str, Any]) -> dict[str, int]:
    """Process numbers by part."""
    return {part["name"]: part["pid"] for part in status["parts"] if part["pid"]}


def part_of(status: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One part of a status."""
    return next(part for part in status["parts"] if part["name"] == name)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def until_gone(pids: Mapping[str, int], limit_s: float = 20) -> None:
    """Wait until none of the processes runs."""
    end = time.monotonic() + limit_s
    while any(map(is_running, pids.values())):
        assert time.monotonic() < end, {n: p for n, p in pids.items() if is_running(p)}
        time.sleep(0.05)


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)
