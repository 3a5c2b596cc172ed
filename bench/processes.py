"""Programs under test: each in a session of its own, on its cores, and gone when the block ends."""

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Final

from bench.errors import CannotMeasure, TargetFailed
from bench.procfs import Usage, list_session, read_session

STOP_LIMIT_S: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A program that was started."""

    name: str
    process: "subprocess.Popen[str]"
    log: IO[str]

    def usage(self) -> Usage:
        """What it and its children have used until now."""
        return read_session(self.process.pid)

    def check(self) -> None:
        """Raise TargetFailed, with the program's last words, when it has ended."""
        if self.process.poll() is not None:
            raise TargetFailed(
                f"{self.name} ended with {self.process.returncode}: {last_words(self.log)}"
            )


def last_words(log: IO[str]) -> str:
    """The last line of a log, which of a traceback is the error; or a remark that it is empty."""
    log.seek(0)
    lines = log.read().split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def bound_to(*cores: int) -> Callable[[], None]:
    """Return what a child does before it becomes its program: take the cores, die with us."""
    libc = ctypes.CDLL(None)

    def bind() -> None:
        os.sched_setaffinity(0, cores)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return bind


@contextmanager
def running(
    name: str, command: Sequence[str], *cores: int, stop_limit_s: float = STOP_LIMIT_S
) -> Iterator[Running]:
    """Run the program for the block; afterwards nothing of its session is left.

    It is asked to end and has `stop_limit_s` for it. Its standard input stays open for the block,
    its standard output can be read, and the rest of what it says is kept for the message if it
    fails. Raises CannotMeasure when there is no such program.
    """
    with tempfile.TemporaryFile("w+") as log:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                preexec_fn=bound_to(*cores),
            )
        except OSError as error:
            raise CannotMeasure(
                f"{name} cannot be started: {command[0]}: {error.strerror}"
            ) from error
        with process:
            try:
                yield Running(name, process, log)
            finally:
                _stop(process, stop_limit_s)


def _stop(process: "subprocess.Popen[str]", limit_s: float) -> None:
    """Ask the program to end, then end all that is left of its session."""
    with suppress(subprocess.TimeoutExpired):
        process.terminate()
        process.wait(limit_s)
    deadline = time.monotonic() + STOP_LIMIT_S
    while (members := list_session(process.pid)) and time.monotonic() < deadline:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
