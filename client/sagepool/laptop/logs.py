"""Reads the logs of a place, and follows them."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from sagepool.laptop.errors import NothingFound
from sagepool.laptop.home import Place

_POLL_S: Final = 0.2
_CHUNK_BYTES: Final = 1 << 16


def log_files(place: Place, part: str = "") -> list[Path]:
    """The logs of all parts, or of one.

    Raises:
        NothingFound: there is no such part.
    """
    found = sorted(place.logs.glob("*.log"))
    if part:
        found = [path for path in found if path.stem == part]
    if not found:
        known = ", ".join(sorted(path.stem for path in place.logs.glob("*.log")))
        raise NothingFound(f"{place.kind} {place.name} has no log {part}: there are {known or '-'}")
    return found


def read(
    files: Sequence[Path],
    lines: int,
    *,
    follow: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """The last lines of each file, then what is added, if followed.

    With several files each piece stands under its name.
    """
    several = len(files) > 1
    ends = {}
    for path in files:
        text, ends[path] = _tail(path, lines)
        if text:
            yield _under_name(path, text) if several else text
    while follow:
        for path in files:
            added, ends[path] = _added(path, ends[path])
            if added:
                yield _under_name(path, added) if several else added
        sleep(_POLL_S)


def _under_name(path: Path, text: str) -> str:
    return f"==> {path.stem} <==\n{text.rstrip(chr(10))}\n"


def _tail(path: Path, lines: int) -> tuple[str, int]:
    """The last lines, read from the end, and where the file ended."""
    with path.open("rb") as file:
        end = start = file.seek(0, 2)
        data = b""
        while start > 0 and data.count(b"\n") <= lines:
            start = max(0, start - _CHUNK_BYTES)
            file.seek(start)
            data = file.read(end - start)
    kept = data.splitlines(keepends=True)[-lines:] if lines else []
    return b"".join(kept).decode(errors="replace"), end


def _added(path: Path, since: int) -> tuple[str, int]:
    """What was written since; from the start when the file was turned over."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(since if since <= size else 0)
            data = file.read()
            return data.decode(errors="replace"), file.tell()
    except FileNotFoundError:
        return "", 0
