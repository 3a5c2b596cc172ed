"""Starts a launch from the command line: progress, then the background or until Ctrl-C."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sagepool.cli.progress import StartProgress, describe
from sagepool.laptop import control
from sagepool.laptop.claims import one_start_at_a_time
from sagepool.laptop.errors import CommandError, NothingFound
from sagepool.laptop.process import identify

if TYPE_CHECKING:
    from collections.abc import Callable

    from sagepool.laptop.control import Started
    from sagepool.laptop.home import Place
    from sagepool.laptop.launch import Launch

_POLL_S: Final = 0.2


def start(
    prepare: "Callable[[], tuple[Place, Launch]]",
    limit_s: float,
    *,
    background: bool,
) -> None:
    """Start, wait until all is ready, and stay unless it goes to the background.

    SIGTERM and a closed terminal end it as Ctrl-C does.

    Args:
        prepare: decides what to start where; no other start of the user decides meanwhile.
        limit_s: how long until all must be ready.
        background: it goes on without this terminal.

    Raises:
        KeyboardInterrupt: it was ended before it was ready.
        CommandError: it did not become ready, or broke down later.
    """
    with _signals_as_interrupt():
        started, launch = _begin(prepare, background=background)
        is_ready = False
        try:
            with StartProgress() as progress:
                started.wait_until_ready(limit_s, progress.show)
            is_ready = True
            place = started.place
            print(f"{place.kind} {place.name} answers at {launch.address}/v1", flush=True)
            if not background:
                _stay(started)
        except KeyboardInterrupt:
            _stop(started)
            if not is_ready:
                raise  # who started it to use it must not go on as if it were there


def _begin(
    prepare: "Callable[[], tuple[Place, Launch]]", *, background: bool
) -> "tuple[Started, Launch]":
    """Decide and start, while no other start of this user does."""
    with one_start_at_a_time():
        place, launch = prepare()
        if not background:
            launch.parent = identify(os.getpid())
        started = control.start(place, launch)
        try:
            # Others see in its record what its engines were promised.
            started.wait_until_known()
        except KeyboardInterrupt:
            _stop(started)
            raise
    return started, launch


def _stop(started: "Started") -> None:
    print("stopping", file=sys.stderr, flush=True)
    with contextlib.suppress(NothingFound):
        control.stop(started.place)


def _stay(started: "Started") -> None:
    """Tell about changes until the supervisor ends."""
    shown: dict[str, str] = {}
    while not started.has_ended():
        record = started.record()
        for part in record.parts if record is not None else ():
            line = describe(part)
            if shown.setdefault(part.name, line) != line:
                shown[part.name] = line
                print(line, file=sys.stderr, flush=True)
        time.sleep(_POLL_S)
    record = started.record()
    if record is not None and record.message:
        raise CommandError(record.message)


@contextlib.contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
