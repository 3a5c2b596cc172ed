"""The first event of a stream: engines that fail before the first token say so there.

vLLM sends the head of a stream before it has begun to compute, with status 200. A client can do
nothing with an event before its blank line, so waiting for that costs no time. A vLLM that shuts
down may still take a request and end its stream at once, with the finish reason "abort".

Each dialect tells an error in its own way: chat and completions as a member "error", Responses as
an event "error" or "response.failed", Messages as an event "error". What else comes first opens
the answer: also "response.created" and "message_start", which an engine may send before it has
computed anything, and "ping", which is there to keep the client's connection alive.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from sagepool_router.errors import EngineFailed

_ABORT: Final = re.compile(rb'"finish_reason"\s*:\s*"abort"')
"""Inside a text of the answer its quotes would be escaped."""
_BEGINNING: Final = 64
"""So far an event's name reaches, or the first member of its data."""
_FAILURES: Final = ("error", "response.failed")
"""Names of events that are errors, whatever their data is."""
_DEFAULT_STATUS: Final = 502
_STATUSES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "invalid_request_error": 400,
        "invalid_prompt": 400,
        "BadRequestError": 400,
        "authentication_error": 401,
        "permission_error": 403,
        "not_found_error": 404,
        "NotFoundError": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
        "api_error": 500,
        "internal_error": 500,
        "server_error": 500,
        "InternalServerError": 500,
        "overloaded_error": 503,  # 529 where it comes from, which no client of ours expects
    }
)
"""By the types and codes of dialects that do not say the status."""


class StreamError(msgspec.Struct, frozen=True):
    """An error that came as the first event."""

    status: int
    """The HTTP status that the engine would have given."""
    body: bytes
    """JSON: the engine's own, if it gave one."""


class _Detail(msgspec.Struct):
    code: object = None
    type: object = None


class _Response(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Event(msgspec.Struct):
    type: object = None
    error: msgspec.Raw = msgspec.Raw(b"null")
    response: _Response | None = None


_decode: Final = msgspec.json.Decoder(_Event).decode
_decode_detail: Final = msgspec.json.Decoder(_Detail | str).decode


def is_complete(data: bytes) -> bool:
    """Whether the first event of a stream that begins with `data` is all there."""
    return b"\n\n" in data or b"\r\n\r\n" in data


def find_error(data: bytes) -> StreamError | None:
    """The error that a stream beginning with `data` begins with; None for all else."""
    beginning = data[:_BEGINNING]
    if b"error" in beginning or b"response.failed" in beginning:
        return _read_error(*_read_event(data))
    if b'"abort"' in data and _ABORT.search(_first_event(data)):
        return _failure("the engine aborted the request before it answered")
    return None


def _first_event(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").lstrip(b"\n").partition(b"\n\n")[0]


def _read_event(data: bytes) -> tuple[str, bytes]:
    """Name and data of the first event; empty where it has none."""
    name = ""
    lines: list[bytes] = []
    for line in _first_event(data).split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"event":
            name = value.strip().decode("latin-1")
        elif field == b"data":
            lines.append(value.strip())
    return name, b"\n".join(lines)


def _read_error(name: str, body: bytes) -> StreamError | None:
    try:
        event = _decode(body)
        kind = name or event.type
        if bytes(event.error) != b"null":
            return StreamError(_status(event.error), body)
        if kind == "response.failed" and event.response is not None:
            error = event.response.error
            return StreamError(_status(error), b'{"error":%b}' % error)
        if kind == "error":  # the members of the error are those of the event
            return StreamError(_status(body), b'{"error":%b}' % body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    if name in _FAILURES:
        return _failure("the engine failed before it answered")
    return None


def _status(error: bytes | msgspec.Raw) -> int:
    """The status of an error that says it, or that is known by its code or type.

    Raises:
        DecodeError: it is no error.
    """
    detail = _decode_detail(error)
    if isinstance(detail, str):
        return _DEFAULT_STATUS
    code = detail.code
    if isinstance(code, int) and 400 <= code <= 599:
        return code
    for known in (code, detail.type):
        if isinstance(known, str) and known in _STATUSES:
            return _STATUSES[known]
    return _DEFAULT_STATUS


def _failure(message: str) -> StreamError:
    failed = EngineFailed(message)
    return StreamError(failed.status, failed.body())
