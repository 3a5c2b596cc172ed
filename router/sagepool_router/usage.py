"""Token usage, read from the end of an answer without parsing what comes before it."""

import re
from typing import Final

import msgspec

TAIL_BYTES: Final = 2048
"""Enough for a usage object and what engines write after it."""
KEPT_READS: Final = 16
"""So many, each below `TAIL_BYTES`, are kept before their tail is trimmed."""
_KEY: Final = b'"usage"'
_BEGIN: Final = re.compile(rb'"usage"\s*:\s*\{')
_FLAT: Final = re.compile(rb'"usage"\s*:\s*(\{[^{}]*\})')


class Usage(msgspec.Struct, gc=False):
    """The tokens that a request cost."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _OtherUsage(msgspec.Struct, gc=False):
    """The same by the names that responses and messages have for it."""

    input_tokens: int | None = None
    output_tokens: int | None = None


_decode: Final = msgspec.json.Decoder(Usage).decode
_decode_other: Final = msgspec.json.Decoder(_OtherUsage).decode


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
        flat = _FLAT.match(text, start)
        found = flat[1] if flat is not None else _find_nested(text, start)
        if found:
            try:
                usage = _decode(found)
                if usage.prompt_tokens is None and usage.completion_tokens is None:
                    other = _decode_other(found)
                    return Usage(other.input_tokens, other.output_tokens)
            except msgspec.DecodeError:
                return None
            return usage
    return None


def _find_nested(text: bytes, start: int) -> bytes:
    """The object of a key, with objects in it; empty if it does not end, or is none.

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
