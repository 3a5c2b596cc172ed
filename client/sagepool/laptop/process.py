"""Processes that are told apart by more than their number. Linux only: /proc and pidfd.

A pid in a file goes stale at a crash, and after a reboot it is a stranger's. The boot, the pid and
the moment of the start together name one process for ever.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

PROC: Final = Path("/proc")
STOP_S: Final = 10.0
"""From SIGTERM to SIGKILL."""
GRACE_S: Final = 9
"""What routers and engines are told that requests may take to finish: a little less."""
_STATE, _SESSION, _START = 0, 3, 19
"""Places in /proc/PID/stat behind the name (proc_pid_stat(5), fields 3, 6 and 22)."""
_LISTEN: Final = "0A"
"""State of a listening socket in /proc/net/tcp."""
_POLL_S: Final = 0.05


class ProcessId(msgspec.Struct, frozen=True):
    """One process, for ever."""

    pid: int
    started: int
    """Clock ticks from the boot to its start."""
    boot: str
    """Id of the boot."""


def identify(pid: int) -> ProcessId | None:
    """The process that has this number now; None when none has, or it has ended (a zombie)."""
    fields = _stat(pid)
    if fields is None or fields[_STATE] in "ZX":
        return None
    return ProcessId(pid, int(fields[_START]), boot_id())


def is_alive(process: ProcessId) -> bool:
    """Whether that very process runs."""
    return identify(process.pid) == process


def boot_id() -> str:
    """Names the time since this machine was started."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def send_signal(process: ProcessId, number: signal.Signals) -> bool:
    """Signal that very process, and no other that took its number. False: it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        # The handle is fixed to whoever had the number; then it is asked who that is.
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def session_members(leader: ProcessId) -> Iterator[ProcessId]:
    """What runs in the session that the process opened: itself and what it has started.

    They keep the session's number when the leader has ended. A number that came to another leader
    since belongs to later processes only.
    """
    if leader.boot != boot_id():
        return
    successor = identify(leader.pid)
    if successor is not None and successor != leader:
        return
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            fields = _stat(int(folder.name))
            if fields is not None and int(fields[_SESSION]) == leader.pid:
                member = identify(int(folder.name))
                if member is not None and member.started >= leader.started:
                    yield member


def holders(path: Path) -> list[ProcessId]:
    """The processes of this user that have the file open."""
    found = []
    for folder in PROC.iterdir():
        if folder.name.isdigit() and str(path) in _open_files(int(folder.name)):
            holder = identify(int(folder.name))
            if holder is not None:
                found.append(holder)
    return found


def listens(leader: ProcessId, port: int) -> bool:
    """Whether the process, or one that it has started, listens on the TCP port."""
    listening = _listening(port)
    return any(not listening.isdisjoint(_open_files(it.pid)) for it in session_members(leader))


def end(
    processes: Iterable[ProcessId],
    grace_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """SIGTERM, up to `grace_s` for a graceful end, SIGKILL; returns when all are gone."""
    left = [process for process in processes if send_signal(process, signal.SIGTERM)]
    until = clock() + grace_s
    while (left := [process for process in left if is_alive(process)]) and clock() < until:
        sleep(_POLL_S)
    for process in left:
        send_signal(process, signal.SIGKILL)
    while any(map(is_alive, left)):
        sleep(_POLL_S)


def wait_until_gone(
    process: ProcessId,
    limit_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait for the process's end. False: it still runs after the limit."""
    until = clock() + limit_s
    while is_alive(process):
        if clock() >= until:
            return False
        sleep(_POLL_S)
    return True


def _stat(pid: int) -> list[str] | None:
    with contextlib.suppress(OSError):
        # The name may hold spaces and parentheses: what follows the last one is fixed.
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return None


def _listening(port: int) -> set[str]:
    """The sockets that listen on the port, as `/proc/PID/fd` calls them (proc_pid_net(5))."""
    found = set()
    for table in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _open_files(pid: int) -> set[str]:
    """Paths, and sockets as proc_pid_fd(5) writes them."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                found.add(str(entry.readlink()))
    return found
