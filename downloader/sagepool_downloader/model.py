"""A model on the hub: which files are wanted, and how their bytes are told to be right. Pure."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal, Protocol, TypeAlias

DigestKind: TypeAlias = Literal["sha256", "git-sha1"]

_OTHER_FORMATS: Final = frozenset(
    {".bin", ".ckpt", ".h5", ".msgpack", ".ot", ".pt", ".pth", ".tflite"}
)
"""Weights that engines read only where there are no safetensors."""
_TWICE: Final = "original"
"""Folder in which some publishers keep the same weights in their own format; vLLM skips it too."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a model as the hub lists it."""

    path: str
    """Below the model's folder, with `/`."""
    size_bytes: int
    digest: str
    """Hexadecimal."""
    digest_kind: DigestKind
    """Large files have a SHA-256 of their content; small ones the id that git gives them."""


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


def begin_hash(file: RemoteFile) -> Hash:
    """A digest that equals `file.digest` once it has been given the whole right content."""
    if file.digest_kind == "sha256":
        return hashlib.sha256()
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
