"""A process's log: bounded in size, and never a reason to stop."""

import contextlib
import re
from pathlib import Path
from typing import BinaryIO, Final

from sagepool_engines.last_words import find_cause

_LARGEST_BYTES: Final = 10 << 20
_REMEMBERED_BYTES: Final = 64 << 10
_ESCAPES: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""What programs colour their words with (ECMA-48, control sequences)."""


class LogFile:
    """Takes what a process writes; the file before it is kept, both about `largest_bytes`.

    A full disk loses text and nothing else: the process that writes is never held up.
    """

    def __init__(self, path: Path, largest_bytes: int = _LARGEST_BYTES) -> None:
        self._path = path
        self._largest_bytes = largest_bytes
        self._file: BinaryIO | None = None
        self._size = 0
        self._tail = b""

    def begin(self) -> None:
        """Another process writes from now on: forget the words of the one before."""
        self._tail = b""

    def write(self, chunk: bytes) -> None:
        """Append."""
        self._tail = (self._tail + chunk)[-_REMEMBERED_BYTES:]
        try:
            if self._file is None or self._size > self._largest_bytes:
                self._file = self._turn()
            self._file.write(chunk)
            self._size += len(chunk)
        except OSError:
            self.close()

    def cause(self) -> str:
        """The line that says why a process ended with an error, else the last one."""
        return find_cause(self._said()) or self.last_line()

    def last_line(self) -> str:
        """The last line that says something; may be empty. Also when it could not be written."""
        lines = self._said().splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _said(self) -> str:
        return self._tail.decode(errors="replace").replace("\r", "\n")

    def close(self) -> None:
        """Close the file; the next text opens it again."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()

    def _turn(self) -> BinaryIO:
        """Open the file, the full one out of the way."""
        if self._file is not None:
            self.close()
            self._path.replace(self._path.with_suffix(".log.1"))
        file = self._path.open("ab", buffering=0)
        self._size = file.tell()
        return file


def plain(line: str, longest: int = 200) -> str:
    """A line of a log without colours and other signs that a terminal obeys, cut."""
    words = _ESCAPES.sub("", line).replace("\t", " ")
    return "".join(sign for sign in words if sign.isprintable())[:longest].strip()
