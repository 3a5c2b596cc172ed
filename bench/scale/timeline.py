"""Memory and CPU time of a program over a while."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.errors import CannotMeasure
from bench.procfs import Usage
from bench.targets import Target


@dataclass(frozen=True, slots=True)
class Moment:
    """What had been used at a time."""

    at_s: float
    usage: Usage


def read_usage(target: Target) -> Usage:
    """What the target has used. Raises CannotMeasure for the engine itself."""
    if target.program is None:
        raise CannotMeasure(f"{target.name} is no program of its own")
    return target.program.usage()


@contextmanager
def watched(target: Target, interval_s: float) -> Iterator[Sequence[Moment]]:
    """Note what the target uses all through the block; the list grows meanwhile."""
    moments: list[Moment] = []
    ended = threading.Event()
    began = time.monotonic()

    def note() -> None:
        while True:
            moments.append(Moment(time.monotonic() - began, read_usage(target)))
            if ended.wait(interval_s):
                return

    watcher = threading.Thread(target=note, name="timeline", daemon=True)
    watcher.start()
    try:
        yield moments
    finally:
        ended.set()
        watcher.join()
