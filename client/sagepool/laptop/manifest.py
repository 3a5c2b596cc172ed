"""A pool file, read as a cluster would read it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sagepool.laptop.errors import NothingFound, WrongUse
from sagepool_crds import names
from sagepool_crds.admission import Refused, admit
from sagepool_crds.manifests import load_manifests
from sagepool_crds.meta import PoolKey
from sagepool_router.sources.document import Document, DocumentError, read_document


def read_objects(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with the defaults that a cluster would fill in.

    Raises:
        NothingFound: there is no such file.
        WrongUse: it cannot be read, is not YAML, or a cluster would refuse it.
    """
    return admit_objects(read_documents(path), str(path))


def read_documents(path: Path) -> list[Any]:
    """What stands in a file, as it was written.

    Raises:
        NothingFound: there is no such file.
        WrongUse: it cannot be read or is not YAML.
    """
    text = _read(path)
    try:
        found = load_manifests(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WrongUse(f"{path} is not YAML: {_words(error)}") from None
    if not found:
        raise WrongUse(f"{path} is empty: write an InferencePool into it")
    return found


def admit_objects(objects: Sequence[Any], origin: str) -> list[dict[str, Any]]:
    """Objects as a cluster would store them.

    Raises:
        WrongUse: a cluster would refuse one.
    """
    admitted = []
    for number, obj in enumerate(objects, 1):
        if not isinstance(obj, dict):
            raise WrongUse(f"{origin}: document {number} is not an object")
        try:
            admitted.append(admit(obj))
        except Refused as refused:
            raise WrongUse(f"{origin}: {refused}") from None
    return admitted


def choose_pool(objects: Sequence[dict[str, Any]], name: str | None, origin: str) -> Document:
    """One pool of the objects, and its instances elsewhere.

    Raises:
        WrongUse: it holds none, several and none was named, or objects that do not fit together.
    """
    key = None
    if name is not None:
        spaces = [
            obj["metadata"].get("namespace", "default")
            for obj in objects
            if obj["kind"] == names.POOL_KIND and obj["metadata"]["name"] == name
        ]
        key = PoolKey(spaces[0] if spaces else "default", name)
    try:
        return read_document(yaml.safe_dump_all(objects), key)
    except DocumentError as error:
        raise WrongUse(f"{origin}: {error}") from None


def _words(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """What is wrong and where, without the reader's names for things."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NothingFound(f"there is no file {path}") from None
    except OSError as error:
        raise WrongUse(f"{path} cannot be read: {error.strerror or error}") from None
