"""What the kernel says of processes: CPU time and memory."""

import ctypes
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """One process as /proc/PID/stat has it."""

    session: int
    rss_pages: int
    is_zombie: bool
    """Whether it has ended, and waits for its parent to notice."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of a session have used until now."""

    cpu_s: float
    rss_bytes: int


def parse_stat(text: str) -> ProcessStat:
    """Read one line of /proc/PID/stat; the fields are those of proc(5)."""
    # The second field is the program's name, which may hold spaces and brackets itself.
    fields = text.rpartition(")")[2].split()
    return ProcessStat(
        session=int(fields[6 - 3]), rss_pages=int(fields[24 - 3]), is_zombie=fields[3 - 3] == "Z"
    )


def list_session(session: int, proc: Path = PROC) -> Mapping[int, ProcessStat]:
    """Return the session's living processes by their ids."""
    members = {}
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = parse_stat((folder / "stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended in the meantime
        if stat.session == session and not stat.is_zombie:
            members[int(folder.name)] = stat
    return members


def read_session(session: int) -> Usage:
    """Return what the session's living processes have used, added up.

    A program that is started in a session of its own is counted with its workers this way.
    """
    cpu_s, pages = 0.0, 0
    for pid, stat in list_session(session).items():
        pages += stat.rss_pages
        with suppress(ProcessLookupError):  # it ended in the meantime
            cpu_s += read_cpu_s(pid)
    return Usage(cpu_s, pages * os.sysconf("SC_PAGE_SIZE"))


def read_cpu_s(pid: int) -> float:
    """Return the CPU time of a process: user and system, all its threads, ended ones included.

    The same as utime and stime of /proc/PID/stat, which count in steps of 10 ms and so are too
    coarse for a few thousand requests; this clock counts nanoseconds. Raises ProcessLookupError
    when there is no such process.
    """
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        raise ProcessLookupError(f"no process {pid}")
    try:
        return time.clock_gettime(clock.value)
    except OSError as error:
        raise ProcessLookupError(f"no process {pid}") from error
