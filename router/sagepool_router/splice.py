"""Replace the model's name in a JSON body without touching the rest of it.

Engines know the name that they serve, clients may send an alias. Decoding and encoding the body
would cost a hundred times more and change what we do not understand (numbers, duplicates), so
only the bytes of the value are exchanged.
"""

import re
from typing import Final

import msgspec

_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}:,]', re.DOTALL)
"""What structure is made of: texts and punctuation; numbers and literals are skipped."""


class _Model(msgspec.Struct, gc=False):
    model: object = None


_decode_model: Final = msgspec.json.Decoder(_Model).decode


def replace_model(body: bytes, name: str) -> bytes:
    """The body with its top-level "model" set to `name`.

    Of duplicate keys the last one counts, as it does at the engine. `body` must be a JSON object
    that msgspec decodes and whose "model" is a text. If the value cannot be found with
    certainty, the body is decoded and encoded anew.
    """
    span = _find_value(body)
    if span is not None:
        start, end = span
        spliced = b"".join((body[:start], msgspec.json.encode(name), body[end:]))
        if _decode_model(spliced).model == name:
            return spliced
    fields: dict[str, object] = msgspec.json.decode(body)
    fields["model"] = name
    return msgspec.json.encode(fields)


def _find_value(body: bytes) -> tuple[int, int] | None:
    """Where the text of the last top-level "model" begins and ends, quotes included."""
    depth = 0
    found: tuple[int, int] | None = None
    key: bytes | None = None
    expects_value = False
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first in b"{[":
            depth += 1
            expects_value = False
        elif first in b"}]":
            depth -= 1
        elif depth != 1:
            continue
        elif first == ord(":"):
            expects_value = True
        elif first == ord(","):
            expects_value = False
        elif expects_value:
            if key is not None and _is_model(key):
                found = token.span()
            expects_value = False
        else:
            key = token.group()
    return found


def _is_model(key: bytes) -> bool:
    if b"\\" in key:
        return bool(msgspec.json.decode(key) == "model")
    return key == b'"model"'
