"""Reads the files of a mounted Secret, of a directory like it, or one file: IO only.

A Secret's volume shows each entry as a link through `..data`, a link to a directory with the
present version; Kubernetes replaces that link in one step. The directory is opened once and its
files are read through it, so that no two versions are ever mixed.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Name, inode, time of change in ns and size of whatever was found: differs after every edit."""

_VERSION: Final = "..data"
_MAX_DOCUMENT_BYTES: Final = 4 << 20
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Directory:
    """The files of a directory by name."""

    contents: Mapping[str, bytes]
    unreadable: Mapping[str, str]
    """By name, what the system says."""


def take_stamp(path: Path) -> Stamp:
    """What `path` looks like now; empty if that cannot be told."""
    try:
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            return (_stamp("", found),)
        with _open_version(path) as folder:
            return tuple(_stamps(folder))
    except OSError:
        return ()


def read_file(path: Path) -> bytes:
    """The content of one file.

    Raises:
        OSError: it cannot be read.
    """
    content = _read(str(path), None, _MAX_DOCUMENT_BYTES)
    if content is None or len(content) > _MAX_DOCUMENT_BYTES:
        raise OSError(0, f"not a file of at most {_MAX_DOCUMENT_BYTES} bytes")
    return content


def read_directory(path: Path, max_bytes: int) -> Directory:
    """The files of a directory: names that begin with a dot and folders are passed over.

    Args:
        path: the directory.
        max_bytes: of a file; one byte more is read of larger ones.

    Raises:
        OSError: the directory cannot be read.
    """
    for _ in range(_ATTEMPTS):
        found = _read_version(path, max_bytes)
        if found is not None:
            return found
    raise OSError(0, "its files change while they are read")


def _read_version(path: Path, max_bytes: int) -> Directory | None:
    """The present version's files; None if another has taken its place meanwhile.

    The files of an old version go after the new one is in place, so what was read of a version
    that is still the present one is all of it.
    """
    contents: dict[str, bytes] = {}
    unreadable: dict[str, str] = {}
    with _open_version(path) as folder:
        for name in _names(folder):
            try:
                content = _read(name, folder, max_bytes)
            except OSError as error:
                unreadable[name] = f"it cannot be read: {(error.strerror or str(error)).lower()}"
            else:
                if content is not None:
                    contents[name] = content
        # While the first is open, no other directory can have its inode.
        with _open_version(path) as present:
            is_present = os.path.sameopenfile(folder, present)
    return Directory(contents, unreadable) if is_present else None


@contextmanager
def _open_version(path: Path) -> Iterator[int]:
    """A descriptor of the directory that holds the present version."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        folder = os.open(path / _VERSION, flags)
    except FileNotFoundError:
        folder = os.open(path, flags)
    try:
        yield folder
    finally:
        os.close(folder)


def _names(folder: int) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _stamps(folder: int) -> Iterator[tuple[str, int, int, int]]:
    yield _stamp("", os.fstat(folder))
    for name in _names(folder):
        try:
            yield _stamp(name, os.stat(name, dir_fd=folder))
        except OSError:
            yield (name, 0, 0, 0)


def _stamp(name: str, found: os.stat_result) -> tuple[str, int, int, int]:
    return (name, found.st_ino, found.st_mtime_ns, found.st_size)


def _read(name: str, folder: int | None, max_bytes: int) -> bytes | None:
    """Up to `max_bytes` and one more of a file; None for what is no file."""
    # Opening a named pipe without O_NONBLOCK would wait for its writer.
    file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        with open(file, "rb", closefd=False) as content:
            return content.read(max_bytes + 1)
    finally:
        os.close(file)
