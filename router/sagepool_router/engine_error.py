"""Errors of engines in the shape that OpenAI's clients read. Pure."""

from typing import Final

import msgspec

_NULL: Final = msgspec.Raw(b"null")


class _Error(msgspec.Struct, gc=False):
    """What engines write without OpenAI's wrapping: TEI in two ways, vLLM in earlier versions."""

    error: msgspec.Raw = _NULL
    error_type: str | None = None
    message: str | None = None
    type: str | None = None
    param: str | None = None
    code: int | str | None = None


_decode: Final = msgspec.json.Decoder(_Error).decode
_decode_text: Final = msgspec.json.Decoder(str).decode


def to_openai(body: bytes) -> bytes:
    """An error's body as the OpenAI API writes it; what has that shape, or no known one, stays.

    Args:
        body: of an answer whose status is an error's.
    """
    try:
        found = _decode(body)
        given = bytes(found.error)
        message = _decode_text(given) if given.startswith(b'"') else found.message
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    if message is None or given.startswith(b"{"):
        return body
    kind = found.error_type or found.type
    code = kind if found.code is None else found.code
    error = {"message": message, "type": kind, "param": found.param, "code": code}
    return msgspec.json.encode({"error": error})
