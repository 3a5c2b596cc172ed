"""Bytes of answers: heads of what engines say, and the router's own errors whole."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from sagepool_router.endpoints import Kind
from sagepool_router.errors import RouterError

LAST_CHUNK: Final = b"0\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_REQUEST_ID: Final = b"x-request-id: "
_KEEP: Final = b"\r\n\r\n"
_CLOSE: Final = b"\r\nconnection: close\r\n\r\n"
_CHUNKED: Final = b"\r\ntransfer-encoding: chunked\r\n\r\n"
_CHUNKED_CLOSE: Final = b"\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"


_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES: Final = tuple(
    f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode() for status in range(1000)
)
"""By status: three digits are all that a parser takes."""


def answer_head(
    status: int,
    fields: Sequence[bytes],
    backend_head: bytes,
    request_id: bytes,
    is_chunked: bool,
    keep_alive: bool,
) -> bytes:
    """The head of an engine's answer as the client gets it.

    Args:
        status: the engine's status.
        fields: the engine's fields as lines, without those of its connection.
        backend_head: the field that names the instance, up to the request id's value.
        request_id: that value.
        is_chunked: the body's length is not known.
        keep_alive: the client's connection stays open after it.
    """
    if is_chunked:
        end = _CHUNKED if keep_alive else _CHUNKED_CLOSE
    else:
        end = _KEEP if keep_alive else _CLOSE
    return b"".join((_STATUS_LINES[status], *fields, backend_head, request_id, end))


def json_answer(
    status: int,
    body: bytes,
    request_id: bytes,
    *,
    start: bytes = _REQUEST_ID,
    keep_alive: bool,
    head_only: bool = False,
) -> bytes:
    """A whole answer of the router's own with a JSON body.

    Args:
        status: of the answer.
        body: JSON.
        request_id: of the request.
        start: further fields, up to the request id's value.
        keep_alive: the client's connection stays open after it.
        head_only: the body is not sent.
    """
    return b"%bcontent-type: application/json\r\ncontent-length: %d\r\n%b%b%b%b" % (
        _STATUS_LINES[status],
        len(body),
        start,
        request_id,
        _KEEP if keep_alive else _CLOSE,
        b"" if head_only else body,
    )


def error_answer(
    error: RouterError, request_id: bytes, *, keep_alive: bool, head_only: bool = False
) -> bytes:
    """A whole answer that tells an error."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in error.headers.items()).encode()
    return json_answer(
        error.status,
        error.body(),
        request_id,
        start=fields + _REQUEST_ID,
        keep_alive=keep_alive,
        head_only=head_only,
    )


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def error_event(error: RouterError, kind: Kind) -> bytes:
    """An error as the last event of an event stream that cannot be completed.

    Args:
        error: what happened.
        kind: of the route; its clients know errors in a form of their own.
    """
    if kind == "message":
        detail = {"type": "api_error", "message": error.message}
        return _named_event({"type": "error", "error": detail})
    if kind == "response":
        return _named_event(
            {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        )
    return b"data: %b\n\n" % error.body()


def _named_event(data: Mapping[str, object]) -> bytes:
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(data)
