"""Token usage, read from the end of an answer without parsing what comes before it."""

import re
from typing import Final, NamedTuple

import msgspec

from sagepool_router.bodies import read_usage

TAIL_BYTES: Final = 2048
"""Enough for a usage object and what engines write after it."""
KEPT_READS: Final = 16
"""So many, each below `TAIL_BYTES`, are kept before their tail is trimmed."""
_KEY: Final = b'"usage"'
_BEGIN: Final = re.compile(rb"\s*:\s*\{")
"""What is between the key and the object."""


class Usage(NamedTuple):
    """The tokens that a request cost; None: the engine does not say."""

    prompt_tokens: int | None
    completion_tokens: int | None


def trim_tail(reads: list[bytes]) -> None:
    """Leave the last 2 KiB of an answer's last reads, in one piece."""
    last = reads[-1]
    tail = last if len(last) >= TAIL_BYTES else b"".join(reads)
    reads[:] = (tail[-TAIL_BYTES:],)


def find_usage(text: bytes) -> Usage | None:
    """The last object under a key "usage" in `text`, which may begin anywhere in an answer.

    Inside a text of the answer the key's quotes would be escaped, so it cannot be mistaken.
    """
    start = len(text)
    while (start := text.rfind(_KEY, 0, start)) >= 0:
        found = _read_object(text, start + len(_KEY))
        if found:
            try:
                said = read_usage(found)
            except msgspec.DecodeError:
                return None
            if said.prompt_tokens is None and said.completion_tokens is None:
                return Usage(said.input_tokens, said.output_tokens)
            return Usage(said.prompt_tokens, said.completion_tokens)
    return None


def _read_object(text: bytes, start: int) -> bytes:
    """The object of a key that ends at `start`; empty if it has none, or it does not end.

    Usage has no texts with braces in it.
    """
    key = _BEGIN.match(text, start)
    if key is None:
        return b""
    begin = end = key.end() - 1
    while end := text.find(b"}", end) + 1:
        if text.count(b"{", begin, end) == text.count(b"}", begin, end):
            return text[begin:end]
    return b""
