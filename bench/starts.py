"""What it takes to get from the command to the first good answer."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bench.processes import running
from bench.targets import wait_for_answer


@dataclass(frozen=True, slots=True)
class Start:
    """One start of one target."""

    wall_s: float
    cpu_s: float
    rss_bytes: int


Starts: TypeAlias = Mapping[str, Sequence[Start]]
"""Starts of all rounds by the target's name."""


def measure_start(name: str, command: Sequence[str], port: int, core: int) -> Start:
    """Start the program, wait for its first good answer, and stop it.

    Raises TargetFailed when it ends or does not answer in time.
    """
    began = time.monotonic()
    with running(name, command, core) as program:
        wait_for_answer(program, port)
        wall_s = time.monotonic() - began
        usage = program.usage()
        return Start(wall_s, usage.cpu_s, usage.rss_bytes)
