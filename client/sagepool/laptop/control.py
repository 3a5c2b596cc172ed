"""Start, watch and stop a supervisor."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

import msgspec

from sagepool.laptop.errors import CommandError, NothingFound
from sagepool.laptop.home import Place, unwritable
from sagepool.laptop.launch import Launch
from sagepool.laptop.process import (
    STOP_S,
    ProcessId,
    end,
    holders,
    send_signal,
    session_members,
    wait_until_gone,
)
from sagepool.laptop.record import PartRecord, Record, read_record

_POLL_S: Final = 0.1
_MARGIN_S: Final = 5.0
_KNOWN_S: Final = 30.0
"""Until a supervisor says its first word: it reads its launch, and imports what it needs."""
_ROOM_BYTES: Final = 1 << 16
"""For the record, the router's file and the first lines of the logs."""


class Started:
    """A supervisor that was just started."""

    def __init__(self, place: Place, process: subprocess.Popen[bytes]) -> None:
        self.place = place
        self._process = process

    def record(self) -> Record | None:
        """What it has written so far; None before its first word."""
        record = read_record(self.place)
        if record is not None and record.supervisor.pid == self._process.pid:
            return record
        return None

    def has_ended(self) -> bool:
        """Whether the supervisor is gone."""
        return self._process.poll() is not None

    def wait_until_known(
        self,
        limit_s: float = _KNOWN_S,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wait for its first word, its end or the limit, whichever comes first."""
        until = clock() + limit_s
        while self.record() is None and not self.has_ended() and clock() < until:
            sleep(_POLL_S)

    def wait_until_ready(
        self,
        limit_s: float,
        on_progress: Callable[[Record], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Record:
        """Wait until everything answers.

        Args:
            limit_s: how long at most.
            on_progress: told about the record again and again.
            clock: seconds, monotonic.
            sleep: waits that many seconds.

        Raises:
            CommandError: it failed or took too long; what was started is stopped.
        """
        until = clock() + limit_s
        while True:
            ended = self.has_ended()
            record = self.record()
            if record is not None:
                on_progress(record)
                if record.outcome == "ready":
                    return record
            if ended:
                raise self._failed(record)
            if clock() >= until:
                waits = "" if record is None else _waiting(record)
                stop(self.place)
                raise CommandError(
                    f"{self.place.kind} {self.place.name} was not ready after {limit_s:g} s{waits}"
                    ": it was stopped; give it more with --timeout"
                )
            sleep(_POLL_S)

    def _failed(self, record: Record | None) -> CommandError:
        log = self.place.logs / "supervisor.log"
        if record is not None and record.message:
            return CommandError(record.message)
        return CommandError(f"the supervisor ended with {self._process.returncode}: see {log}")


def start(place: Place, launch: Launch) -> Started:
    """Start a supervisor.

    Raises:
        CommandError: one runs there already, or the place cannot be written.
    """
    place.make()
    lock = place.lock()
    if lock is None:
        raise CommandError(
            f"{place.kind} {place.name} runs already: stop it first, or see its status"
        )
    try:
        clear(place)
        _require_room(place)
        with (place.logs / "supervisor.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "sagepool.laptop", place.kind, place.name, place.folder],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock],
                cwd="/",
            )
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(msgspec.json.encode(launch))
    except OSError as error:
        raise unwritable(place.folder, error) from error
    finally:
        os.close(lock)
    return Started(place, process)


def _require_room(place: Place) -> None:
    """See that what a start writes has room. Raises OSError."""
    probe = place.folder / ".room"
    try:
        probe.write_bytes(bytes(_ROOM_BYTES))
    finally:
        probe.unlink(missing_ok=True)


def stop(place: Place) -> None:
    """Stop what runs in the place and clear what is left of it.

    Raises:
        NothingFound: nothing runs there, and nothing was left.
    """
    # The router, then the engines, each with its limit; then the supervisor itself.
    limit_s = 2 * STOP_S + _MARGIN_S
    record = read_record(place)
    if record is None:
        # Lost or broken: whoever holds the lock is the supervisor all the same.
        supervisors = holders(place.lock_file) if place.is_taken() else []
        if not supervisors:
            clear(place)
            raise NothingFound(f"no {place.kind} {place.name} runs here")
        end(supervisors, limit_s)
    elif send_signal(record.supervisor, signal.SIGTERM):
        wait_until_gone(record.supervisor, limit_s)
    clear(place)


def clear(place: Place) -> None:
    """End what a killed supervisor left, and forget it."""
    record = read_record(place)
    if record is not None:
        end(_left(record), STOP_S)
    for path in (place.record, place.router_file):
        path.unlink(missing_ok=True)


def _left(record: Record) -> list[ProcessId]:
    leaders = [record.supervisor, *(p.process for p in record.parts if p.process is not None)]
    return [member for leader in leaders for member in session_members(leader)]


def _waiting(record: Record) -> str:
    waits = [part for part in record.parts if part.phase != "ready"]
    return "" if not waits else " (" + "; ".join(map(_word, waits)) + ")"


def _word(part: PartRecord) -> str:
    return f"{part.name}: {part.message or part.doing or part.phase}"
