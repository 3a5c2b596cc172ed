"""Where the state of this user's pools and engines is kept: ~/.sage, or SAGE_HOME.

pools/NAME/     lock, record.json, router.yaml, logs/
engines/PORT/   the same, without router.yaml
secrets/NAME/   a file a key, as Kubernetes mounts a Secret
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from sagepool.laptop.errors import CommandError, WrongUse

PlaceKind: TypeAlias = Literal["pool", "engine"]

VARIABLE: Final = "SAGE_HOME"
_FOLDERS: Final[Mapping[PlaceKind, str]] = {"pool": "pools", "engine": "engines"}


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one pool, or of one engine without a pool."""

    kind: PlaceKind
    name: str
    """The pool's name, or the engine's port."""
    folder: Path

    @property
    def record(self) -> Path:
        """What runs, as its supervisor last wrote it."""
        return self.folder / "record.json"

    @property
    def lock_file(self) -> Path:
        """Held by the supervisor as long as it runs."""
        return self.folder / "lock"

    @property
    def router_file(self) -> Path:
        """The pool as its router reads it."""
        return self.folder / "router.yaml"

    @property
    def logs(self) -> Path:
        """A file a process."""
        return self.folder / "logs"

    def make(self) -> None:
        """Make the folders, for this user alone.

        Raises:
            CommandError: they cannot be written.
        """
        try:
            for folder in (self.folder, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def lock(self) -> int | None:
        """Take the place for whoever holds the descriptor; None when it is taken.

        The lock ends with the last process that has the descriptor, however it ends.

        Raises:
            CommandError: the place cannot be written.
        """
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def is_taken(self) -> bool:
        """Whether a supervisor runs here."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of all of them."""

    folder: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Home":
        """The home of this user, or the one that SAGE_HOME names, from the root: a supervisor
        leaves the folder that it was started in."""
        named = environ.get(VARIABLE)
        folder = Path(named) if named else Path(environ.get("HOME", "/")) / ".sage"
        return cls(folder.absolute())

    @property
    def secrets(self) -> Path:
        """A folder a Secret."""
        return self.folder / "secrets"

    def place(self, kind: PlaceKind, name: str) -> Place:
        """The place of a pool or an engine, whether it exists or not.

        Raises:
            WrongUse: that is no name but a path.
        """
        if name in ("", ".", "..") or "/" in name:
            raise WrongUse(f"{name!r} is no name of a {kind}")
        return Place(kind, name, self.folder / _FOLDERS[kind] / name)

    def places(self, kind: PlaceKind) -> Iterator[Place]:
        """Those that exist, by name."""
        folder = self.folder / _FOLDERS[kind]
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.is_dir():
                    yield Place(kind, path.name, path)


def unwritable(folder: Path, error: OSError) -> CommandError:
    """The sentence for a folder that cannot be written."""
    why = os.strerror(error.errno).lower() if error.errno else str(error)
    return CommandError(
        f"{folder} cannot be written ({why}): make room or rights there, or set {VARIABLE} to "
        "another folder"
    )
