"""Plain output for terminals, pipes and logs: a line when something is so, no colours."""

from collections.abc import Callable
from typing import Final, TextIO

_WIDTH: Final = 100
_INDENT: Final = " " * 9


class Screen:
    """Writes lines with the seconds since the demo began."""

    def __init__(self, out: TextIO, clock: Callable[[], float]) -> None:
        """Start the clock."""
        self._out = out
        self._clock = clock
        self._started = clock()
        self._column = 0

    def title(self, text: str) -> None:
        """Begin a part."""
        self._write(f"\n== {text}\n")

    def say(self, message: str) -> None:
        """One thing that happened."""
        self._write(f"{self._clock() - self._started:6.1f}s  {message}\n")

    def block(self, text: str) -> None:
        """Lines as they are."""
        self._write(text.rstrip("\n") + "\n")

    def piece(self, text: str) -> None:
        """A part of a text that grows; it begins a new line where it would grow too long."""
        if self._column + len(text.rstrip()) > _WIDTH:
            self._write("")
            text = text.lstrip()
        if not self._column:
            text = _INDENT + text
        self._column += len(text)
        self._out.write(text)
        self._out.flush()

    def _write(self, text: str) -> None:
        if self._column:
            self._out.write("\n")
            self._column = 0
        self._out.write(text)
        self._out.flush()
