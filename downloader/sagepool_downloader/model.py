"""A model: which files are wanted, and how their bytes are told to be right. Pure."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal, Protocol, TypeAlias

DigestKind: TypeAlias = Literal["sha256", "git-sha1", "md5", "etag"]

_OTHER_FORMATS: Final = frozenset(
    {".bin", ".ckpt", ".h5", ".msgpack", ".ot", ".pt", ".pth", ".tflite"}
)
"""Weights that engines read only where there are no safetensors."""
_TWICE: Final = "original"
"""Folder in which some publishers keep the same weights in their own format; vLLM skips it too."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a model as the hub, or the bucket, lists it."""

    path: str
    """Below the model's folder, with `/`."""
    size_bytes: int
    digest: str
    """Hexadecimal."""
    digest_kind: DigestKind
    """On the hub, large files have a SHA-256 of their content; small ones the id that git gives
    them. In a bucket it is an MD5, or an ETag of which nobody knows what it is made from."""
    chunk_bytes: int = 0
    """Of a file that was uploaded in parts: the size of one. Its digest is one of their MD5s."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A model at one commit."""

    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)


class Hash(Protocol):
    """A running digest."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        ...

    def hexdigest(self) -> str:
        """The digest so far."""
        ...


class _Md5OfParts:
    """The ETag of an object that was uploaded in parts: the MD5 of their MD5s, and their number."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._left = part_bytes
        self._part = hashlib.md5(usedforsecurity=False)
        self._digests: list[bytes] = []

    def update(self, data: bytes, /) -> None:
        while data:
            taken, data = data[: self._left], data[self._left :]
            self._part.update(taken)
            self._left -= len(taken)
            if not self._left:
                self._digests.append(self._part.digest())
                self._part = hashlib.md5(usedforsecurity=False)
                self._left = self._part_bytes

    def hexdigest(self) -> str:
        begun = [self._part.digest()] if self._left < self._part_bytes else []
        digests = [*self._digests, *begun]
        whole = hashlib.md5(b"".join(digests), usedforsecurity=False)
        return f"{whole.hexdigest()}-{len(digests)}"


class _Unknown:
    """Nothing is known about the content but its size."""

    def __init__(self, digest: str) -> None:
        self._digest = digest

    def update(self, data: bytes, /) -> None:
        """There is nothing to compute."""

    def hexdigest(self) -> str:
        return self._digest


def begin_hash(file: RemoteFile) -> Hash:
    """A digest that equals `file.digest` once it has been given the whole right content."""
    match file.digest_kind:
        case "sha256":
            return hashlib.sha256()
        case "md5" if file.chunk_bytes:
            return _Md5OfParts(file.chunk_bytes)
        case "md5":
            return hashlib.md5(usedforsecurity=False)
        case "etag":
            return _Unknown(file.digest)
        case "git-sha1":
            return _begin_git_hash(file)


def _begin_git_hash(file: RemoteFile) -> Hash:
    # Git's id of a blob: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    return hashlib.sha1(f"blob {file.size_bytes}\0".encode(), usedforsecurity=False)


def choose_files(files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """The files that engines read: weights in another format are left out beside safetensors."""
    kept = [file for file in files if PurePosixPath(file.path).parts[0] != _TWICE]
    with_safetensors = {_folder(file) for file in kept if file.path.endswith(".safetensors")}
    return tuple(
        file
        for file in kept
        if PurePosixPath(file.path).suffix not in _OTHER_FORMATS
        or _folder(file) not in with_safetensors
    )


def _folder(file: RemoteFile) -> PurePosixPath:
    return PurePosixPath(file.path).parent
