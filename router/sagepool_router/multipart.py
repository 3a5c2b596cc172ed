"""Fields of a multipart/form-data body (RFC 7578), found and replaced where they stand.

Pure. The body is searched once and never copied: it may hold megabytes of sound. Of fields of
the same name the last one counts, as it does at the engine.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from sagepool_router.errors import InvalidRequest

MAX_PARTS: Final = 256
"""A form may have so many parts."""
MAX_PART_HEAD_BYTES: Final = 4096
"""The header fields of a part may be so large."""

_PARAMETER: Final = re.compile(rb';[ \t]*([^=;\s"]+)=("(?:[^"\\]|\\.)*+"|[^;"]*)')
_LINE_END: Final = re.compile(rb"(--)|[ \t]*+\r\n")
"""What follows a boundary in a delimiter: two dashes in the last one."""
_DISPOSITION: Final = b"content-disposition:"
_MAX_BOUNDARY_BYTES: Final = 256  # RFC 2046 allows 70


def read_boundary(content_type: bytes) -> bytes:
    """The boundary that a content-type names; empty if it names none that can be used."""
    for name, value in _PARAMETER.findall(content_type):
        if name.lower() == b"boundary":
            boundary = bytes(value.strip().strip(b'"'))
            return boundary if len(boundary) <= _MAX_BOUNDARY_BYTES else b""
    return b""


def find_fields(body: bytes, boundary: bytes) -> Mapping[bytes, tuple[int, int]]:
    """Where the values of all fields begin and end; files are no fields.

    Raises:
        InvalidRequest: the body is no complete form, or has too many parts.
    """
    found: dict[bytes, tuple[int, int]] = {}
    for count, (head, begin, end) in enumerate(_parts(body, boundary)):
        if count >= MAX_PARTS:
            raise _broken(f"has more than {MAX_PARTS} parts")
        name = _field_name(body[head:begin])
        if name is not None:
            found[name] = (begin, end)
    return found


def replace_model_field(body: bytes, boundary: bytes, name: str) -> bytes:
    """The body with its field "model" set to `name`, as it is if it has none.

    Raises:
        InvalidRequest: the body is no complete form, or has too many parts.
    """
    span = find_fields(body, boundary).get(b"model")
    if span is None:
        return body
    view = memoryview(body)
    return b"".join((view[: span[0]], name.encode(), view[span[1] :]))


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each part's head begins, its content begins and its content ends."""
    delimiter = b"\r\n--" + boundary
    # the first one may stand at the very beginning, without a line before it
    if body.startswith(delimiter[2:]) and (line := _LINE_END.match(body, len(delimiter) - 2)):
        head = 0 if line[1] else line.end()
    else:
        _, head = _find_delimiter(body, delimiter, 0)
    while head:
        # a part without a head begins with the empty line
        begin = body.find(b"\r\n\r\n", head - 2, head + MAX_PART_HEAD_BYTES) + 4
        if begin < 4:
            raise _broken(f"has a part without a head of at most {MAX_PART_HEAD_BYTES} bytes")
        end, next_head = _find_delimiter(body, delimiter, begin)
        yield head, begin, end
        head = next_head


def _find_delimiter(body: bytes, delimiter: bytes, start: int) -> tuple[int, int]:
    """Where the next delimiter begins, and the head after it; 0 as that: it was the last one."""
    at = body.find(delimiter, start)
    while at >= 0:
        line = _LINE_END.match(body, at + len(delimiter))
        if line is not None:
            return at, 0 if line[1] else line.end()
        at = body.find(delimiter, at + 1)  # a longer line that only begins like it
    raise _broken("is not complete")


def _field_name(head: bytes) -> bytes | None:
    """The name of a part that is a field; None if it is a file."""
    for line in head.split(b"\r\n"):
        if line[: len(_DISPOSITION)].lower() == _DISPOSITION:
            parameters = {
                name.lower(): value.strip().strip(b'"') for name, value in _PARAMETER.findall(line)
            }
            return None if b"filename" in parameters else parameters.get(b"name")
    return None


def _broken(what: str) -> InvalidRequest:
    return InvalidRequest(f"the multipart/form-data body {what}", "invalid_form")
