"""What has been written of a file, with the digest of it."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from sagepool_downloader.model import RemoteFile, begin_hash

_CHUNK_BYTES: Final = 2**20


class Part:
    """A file that grows until it is whole. What an earlier process has left is gone on with."""

    def __init__(self, place: Path, file: RemoteFile) -> None:
        """Read what is there.

        Raises:
            OSError: it cannot be read.
        """
        self.place: Final = place
        self._file = file
        self._hash = begin_hash(file)
        self.size_bytes = 0
        """So much is there."""
        place.touch()
        with place.open("rb") as opened:
            while chunk := opened.read(_CHUNK_BYTES):
                self._count(chunk)

    @property
    def is_whole(self) -> bool:
        """Whether as much is there as the file has."""
        return self.size_bytes >= self._file.size_bytes

    @property
    def is_right(self) -> bool:
        """Whether it is the file, byte for byte."""
        same_size = self.size_bytes == self._file.size_bytes
        return same_size and self._hash.hexdigest() == self._file.digest

    def extend(self, chunks: Iterable[bytes], note: Callable[[int], None]) -> None:
        """Write the chunks to its end and tell `note` the size of each; when this returns or
        raises, what has been told is on the disk.

        Raises:
            OSError: it cannot be written.
        """
        with self.place.open("ab") as opened:
            try:
                for chunk in chunks:
                    opened.write(chunk)
                    self._count(chunk)
                    note(len(chunk))
            finally:
                opened.flush()
                os.fsync(opened.fileno())

    def begin_anew(self) -> None:
        """Keep nothing of it."""
        os.truncate(self.place, 0)
        self._hash = begin_hash(self._file)
        self.size_bytes = 0

    def _count(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size_bytes += len(chunk)
