"""Finding processes by what they are, so that no pid is ever written down.

A pid in a file goes stale at a crash and names a stranger's process after a reboot. Every program
of a cluster is started under a path of its own below the cluster's state folder, which is unique
on the machine; whoever looks for it compares that path with the running processes' own.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it was a moment ago."""

    pid: int
    program: str
    """The path that it was started under (its argument zero)."""


def running_processes(proc: Path = PROC) -> Iterator[Process]:
    """Yield the processes that run; those that ended and only wait to be collected do not."""
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        # A process may end while it is being read, at any of these reads.
        with suppress(OSError):
            state = (folder / "stat").read_text().rpartition(") ")[2][:1]
            arguments = (folder / "cmdline").read_bytes()
            if state not in "ZX" and arguments:
                program = arguments.partition(b"\0")[0].decode(errors="replace")
                yield Process(int(folder.name), program)


def find_process(program: Path, proc: Path = PROC) -> Process | None:
    """Return the process that was started under this path, if it runs."""
    wanted = str(program)
    return next((one for one in running_processes(proc) if one.program == wanted), None)


def pid_namespace(pid: int, proc: Path = PROC) -> str | None:
    """Return the name of the process's pid namespace; None when the process is gone."""
    try:
        return os.readlink(proc / str(pid) / "ns" / "pid")
    except OSError:
        return None


def send_signal(process: Process, number: signal.Signals) -> None:
    """Signal the process; nothing happens if it ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)
