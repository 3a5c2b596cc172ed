"""Telling a person what goes on, on standard error."""

import sys
import time
from typing import Protocol


class Progress(Protocol):
    """Where to say what goes on."""

    def say(self, message: str) -> None:
        """Say one line."""


class StderrProgress:
    """Writes lines with the seconds since the start."""

    def __init__(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def say(self, message: str) -> None:
        """Write the line to standard error."""
        elapsed_s = time.monotonic() - self._started
        print(f"cluster {elapsed_s:6.1f}s  {message}", file=sys.stderr, flush=True)


class Silence:
    """Says nothing."""

    def say(self, message: str) -> None:
        """Say nothing."""
