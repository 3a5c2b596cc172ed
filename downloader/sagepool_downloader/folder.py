"""The cache's volume: a model's folder is there whole, or not at all.

    ROOT/FOLDER/                      a whole model; engines read it
    ROOT/FOLDER/.sagepool-model.json  its source, commit, files and their digests
    ROOT/FOLDER/.sagepool-pools/UID   a pool that wants it: while there is one, it stays
    ROOT/.incoming/FOLDER/            what has been fetched so far, of one commit
    ROOT/.incoming/FOLDER.lock        held by the one process that fetches or removes it
    ROOT/.incoming/FOLDER.removed/    what is being removed

Files of a model are written below `.incoming`, each as `NAME.part` until its digest has been found
right. When all are there, the folder is renamed into place, which happens at once or not at all.
Before it is removed, it is renamed out of there in the same way.

A folder without `.sagepool-pools` was fetched for nobody in particular, and is never removed.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sagepool_downloader.errors import DiskFull, DownloadError, FolderUnusable
from sagepool_downloader.model import Listing, RemoteFile
from sagepool_downloader.part import Part

MANIFEST: Final = ".sagepool-model.json"
_INCOMING: Final = ".incoming"
_POOLS: Final = ".sagepool-pools"
_REMOVED: Final = ".removed"
_COMMIT: Final = ".sagepool-commit"
_PART: Final = ".part"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class ModelFolder:
    """A model's place in the cache."""

    def __init__(self, root: Path, name: str, pool: str = "") -> None:
        """Take the cache's folder, the model's name in it, and the uid of the pool that wants it
        (empty: nobody in particular); nothing is touched yet."""
        self.path: Final = root / name
        """Where the whole model is."""
        self._root = root
        self._pool = pool
        self._incoming = root / _INCOMING / name
        self._removed = root / _INCOMING / (name + _REMOVED)

    @property
    def is_whole(self) -> bool:
        """Whether the model is there."""
        return (self.path / MANIFEST).is_file()

    @property
    def is_kept(self) -> bool:
        """Whether the model is there, and stays while the pool wants it."""
        pools = self.path / _POOLS
        return self.is_whole and (
            not self._pool or not pools.is_dir() or (pools / self._pool).exists()
        )

    def size_bytes(self) -> int:
        """Of the whole model's files."""
        described = json.loads((self.path / MANIFEST).read_text())
        return sum(int(file["size"]) for file in described["files"])

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """Keep others from fetching or removing it, also on other nodes of a shared volume.

        Yields False, at once, when another one holds it. A process that dies holds nothing.

        Raises:
            FolderUnusable: the volume cannot be written.
        """
        with self._lock_file() as lock:
            yield _try_lock(lock)

    def begin(self, commit: str) -> None:
        """Make room for a commit's files; those of another one, left when a branch has moved, are
        of no use."""
        marker = self._incoming / _COMMIT
        if not (marker.is_file() and marker.read_text() == commit):
            shutil.rmtree(self._incoming, ignore_errors=True)
            self._incoming.mkdir(parents=True)
            marker.write_text(commit)
        if self._pool:
            (self._incoming / _POOLS).mkdir(exist_ok=True)
            (self._incoming / _POOLS / self._pool).touch()

    def keep(self) -> None:
        """Let the whole model stay for the pool. Only for who holds it."""
        pools = self.path / _POOLS
        if self._pool and pools.is_dir():
            (pools / self._pool).touch()

    def let_go(self) -> int | None:
        """Keep it for the pool no longer, whole or not, and remove it when no other pool wants it:
        then its size in bytes is returned. Only for who holds it."""
        sizes = [_let_go(place, self._pool, self._removed) for place in self._places()]
        freed = [size for size in sizes if size is not None]
        return sum(freed) if freed else None

    def clear_removed(self) -> None:
        """Finish what a removal that was killed has left. Only for who holds it."""
        if self._removed.exists():
            shutil.rmtree(self._removed)

    def _places(self) -> tuple[Path, ...]:
        return tuple(p for p in (self.path, self._incoming) if (p / _POOLS).is_dir())

    def is_fetched(self, file: RemoteFile) -> bool:
        """Whether a file is there, whole and found right."""
        place = self._incoming / file.path
        return place.is_file() and place.stat().st_size == file.size_bytes

    def open_part(self, file: RemoteFile) -> Part:
        """What has been fetched of a file, to go on with."""
        place = self._incoming / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        return Part(place.with_name(place.name + _PART), file)

    def accept(self, file: RemoteFile, part: Part) -> None:
        """The part is the whole file, and right."""
        os.replace(part.place, self._incoming / file.path)

    def free_bytes(self) -> int:
        """Room on the volume."""
        return shutil.disk_usage(self._root).free

    def publish(self, source: str, listing: Listing) -> None:
        """Every file is there: let engines see the model."""
        (self._incoming / _COMMIT).unlink()
        manifest = self._incoming / MANIFEST
        with manifest.open("w") as written:
            json.dump(_describe(source, listing), written, indent=1)
            written.flush()
            os.fsync(written.fileno())
        if self.path.exists():
            shutil.rmtree(self.path)  # without a manifest it is not ours to keep
        os.replace(self._incoming, self.path)
        _sync_folder(self._root)

    @contextmanager
    def _lock_file(self) -> Iterator[int]:
        with explain(self._root):
            self._incoming.parent.mkdir(parents=True, exist_ok=True)
            place = self._incoming.with_name(self._incoming.name + ".lock")
            lock = os.open(place, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            yield lock
        finally:
            os.close(lock)


def removable_names(root: Path, pool: str) -> frozenset[str]:
    """Models, whole or not, that are kept for the pool, or for nobody any more since a removal was
    killed."""
    places = [*_folders(root), *_folders(root / _INCOMING)]
    return frozenset(place.name for place in places if _is_removable(place / _POOLS, pool))


def half_removed_names(root: Path) -> frozenset[str]:
    """Models whose removal was killed."""
    places = _folders(root / _INCOMING)
    return frozenset(p.name.removesuffix(_REMOVED) for p in places if p.name.endswith(_REMOVED))


@contextmanager
def explain(root: Path) -> Iterator[None]:
    """Turns what the volume refuses into a DownloadError."""
    try:
        yield
    except DownloadError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(
                f"the volume is full ({error.strerror}): enlarge it, or remove models from it"
            ) from error
        raise FolderUnusable(
            f"{root} cannot be written by user {os.getuid()} ({error.strerror or error}): give "
            "that user the folder, or take another volume"
        ) from error


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return [one for one in place.iterdir() if one.is_dir() and not one.is_symlink()]


def _is_removable(pools: Path, pool: str) -> bool:
    return pools.is_dir() and ((pools / pool).exists() or not any(pools.iterdir()))


def _let_go(place: Path, pool: str, removed: Path) -> int | None:
    (place / _POOLS / pool).unlink(missing_ok=True)
    if any((place / _POOLS).iterdir()):
        return None
    size_bytes = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    os.replace(place, removed)
    _sync_folder(place.parent)
    shutil.rmtree(removed)
    return size_bytes


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe(source: str, listing: Listing) -> dict[str, Any]:
    return {
        "source": source,
        "commit": listing.commit,
        "files": [
            {"path": f.path, "size": f.size_bytes, f.digest_kind: f.digest} for f in listing.files
        ],
    }


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
