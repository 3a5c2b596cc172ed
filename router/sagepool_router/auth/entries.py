"""Reads API keys from the entries of a Secret, or from one YAML file. Pure.

No reason given here repeats a word of what was read: each could be the secret itself. Errors of
YAML do repeat them, so only their line is told.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final

import yaml

from sagepool_crds.manifests import load_manifests
from sagepool_router.auth.limits import KeyLimits
from sagepool_router.facts import PRIORITIES

MIN_SECRET: Final = 16
"""Characters that a secret must have."""
MAX_SECRET: Final = 512
"""Characters that it may have."""
MAX_ENTRY_BYTES: Final = 64 << 10
"""The largest entry that is read."""

_NAME: Final = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,252}")
_SECRET: Final = re.compile(r"[-A-Za-z0-9._~+/]+=*")
"""What RFC 6750 lets follow the word Bearer."""
FIELDS: Final = (
    "key",
    "keys",
    "priority",
    "weight",
    "requestsPerMinute",
    "tokensPerMinute",
    "maxConcurrency",
    "models",
)
"""What the settings of a key may hold."""
_MAX_WEIGHT: Final = 1000
_MAX_WHOLE: Final = 10**12


class EntryError(Exception):
    """An entry, or the file, cannot be used; the message says why without what was read."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One API key as it is written."""

    name: str
    secrets: tuple[str, ...] = field(repr=False)
    """Any of them opens the door: during a rotation the old and the new one."""
    priority: int | None = None
    weight: float = 1.0
    limits: KeyLimits = field(default_factory=KeyLimits)
    models: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Entries:
    """All entries that were read."""

    accepted: tuple[KeyEntry, ...]
    refused: Mapping[str, str]
    """By name, why."""


def read_entries(contents: Mapping[str, object]) -> Entries:
    """Read entries, each on its own: one that is wrong does not hinder the others.

    Args:
        contents: by name; bytes from a Secret, or what a YAML document holds.
    """
    accepted: list[KeyEntry] = []
    refused: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name, content in sorted(contents.items()):
        try:
            entry = read_entry(name, content)
            for secret in entry.secrets:
                if secret in owners:
                    raise EntryError(
                        f"it has the same secret as {owners[secret]}: give each its own"
                    )
        except EntryError as error:
            refused[name] = str(error)
        else:
            owners.update(dict.fromkeys(entry.secrets, name))
            accepted.append(entry)
    return Entries(tuple(accepted), refused)


def read_document(text: bytes) -> Entries:
    """Read one YAML file that maps the names of keys to their entries.

    Raises:
        EntryError: it is no such file.
    """
    found = _load(text)
    if found is None:
        return Entries((), {})
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise EntryError("it must map the name of each key to its secret or its settings")
    return read_entries(found)


def read_entry(name: str, content: object) -> KeyEntry:
    """Read one entry.

    Args:
        name: the key's name.
        content: the secret alone, or settings with it: bytes, text or a mapping.

    Raises:
        EntryError: it breaks a rule.
    """
    if not _NAME.fullmatch(name):
        raise EntryError("its name may hold letters, digits and -._ and begins with none of these")
    if isinstance(content, bytes):
        content = _read_content(content)
    if isinstance(content, str):
        return KeyEntry(name, (_check_secret(content),))
    if not isinstance(content, dict):
        raise EntryError("it must be the secret as text, or settings with a field key")
    _check_fields(content)
    models = content.get("models")
    return KeyEntry(
        name,
        tuple(dict.fromkeys(_secrets(content))),
        priority=_priority(content.get("priority")),
        weight=_weight(content.get("weight")),
        limits=KeyLimits(
            _whole("requestsPerMinute", content.get("requestsPerMinute")),
            _whole("tokensPerMinute", content.get("tokensPerMinute")),
            _whole("maxConcurrency", content.get("maxConcurrency")),
        ),
        models=None if models is None else frozenset(_texts("models", models)),
    )


def _read_content(content: bytes) -> object:
    """The secret alone, which need not be YAML, or what the YAML says."""
    if len(content) > MAX_ENTRY_BYTES:
        raise EntryError(f"it is larger than {MAX_ENTRY_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EntryError("it is not UTF-8 text") from None
    words = text.split()
    is_bare = not words or (len(words) == 1 and words[0][0] != "{")
    return text if is_bare else _load(text)


def _load(text: str | bytes) -> object:
    try:
        found = load_manifests(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" (line {mark.line + 1})"
        raise EntryError(f"it is not valid YAML{where}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise EntryError("it is not valid YAML") from None
    if len(found) > 1:
        raise EntryError(f"it holds {len(found)} YAML documents: write one")
    return found[0] if found else None


def _check_secret(text: str) -> str:
    text = text.strip()  # a block of YAML ends with a new line
    if not text:
        raise EntryError("it is empty: write the secret")
    if len(text) < MIN_SECRET:
        raise EntryError(f"its secret has fewer than {MIN_SECRET} characters: take a longer one")
    if len(text) > MAX_SECRET:
        raise EntryError(f"its secret has more than {MAX_SECRET} characters")
    if not _SECRET.fullmatch(text):
        raise EntryError(
            "its secret has characters that a bearer token cannot have: letters, digits and "
            "-._~+/ are allowed, and = at its end"
        )
    return text


def _check_fields(content: Mapping[object, object]) -> None:
    for number, name in enumerate(content, 1):
        if name not in FIELDS:
            near = get_close_matches(str(name), FIELDS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(FIELDS)}"
            raise EntryError(f"its field number {number} is unknown: {hint}")


def _secrets(content: Mapping[object, object]) -> Iterator[str]:
    if ("key" in content) == ("keys" in content):
        raise EntryError("it needs one of the fields key (a secret) and keys (a list of them)")
    if "key" in content:
        key = content["key"]
        if not isinstance(key, str):
            raise EntryError("key must be a text: put it in quotes")
        yield _check_secret(key)
    else:
        yield from map(_check_secret, _texts("keys", content["keys"]))


def _texts(name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
        raise EntryError(f"{name} must be a list of at least one text, none of them empty")
    return value


def _priority(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.lower() in PRIORITIES:
        return PRIORITIES[value.lower()]
    if type(value) is int and value in PRIORITIES.values():
        return value
    raise EntryError(f"priority must be one of {', '.join(PRIORITIES)}, or 0 to 4")


def _weight(value: object) -> float:
    if value is None:
        return 1.0
    if isinstance(value, int | float) and type(value) is not bool:
        weight = float(value)
        if math.isfinite(weight) and 0 < weight <= _MAX_WEIGHT:
            return weight
    raise EntryError(f"weight must be a number above 0, at most {_MAX_WEIGHT}")


def _whole(name: str, value: object) -> int | None:
    if value is None:
        return None
    if type(value) is int and 1 <= value <= _MAX_WHOLE:
        return value
    raise EntryError(f"{name} must be a whole number from 1 on; leave it out for no limit")
