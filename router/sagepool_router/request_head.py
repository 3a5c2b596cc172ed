"""The head of an inference request: what of its fields matters, and what refuses it."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import httptools

from sagepool_router.errors import InvalidRequest, RouterError
from sagepool_router.limits import Limits
from sagepool_router.multipart import read_boundary

_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
JSON: Final = b"application/json"
"""The content-type of a request that is no form."""
_FORM: Final = b"multipart/form-data"
_WISHES: Final = frozenset(
    (
        b"x-sagepool-budget",
        b"x-sagepool-deadline-ms",
        b"x-sagepool-priority",
        b"x-sagepool-request-type",
        b"x-session-id",
    )
)
"""What a client may ask for."""
_RARE: Final = _WISHES | {
    b"content-encoding",
    b"expect",
    b"transfer-encoding",
    b"x-api-key",
    b"x-request-id",
}
"""Fields that matter and that most requests do not have."""


class RequestHead:
    """The fields that the router acts on. None of the others is passed on to an engine.

    Args:
        path: of the route, without a query.
        method: as it came.
        version: of HTTP.
        request_id: the client's own, or one that was made for it.
    """

    content_length: int | None = None
    is_chunked: bool = False
    transfer_encoding: bytes = b"chunked"
    content_encoding: bytes = b"identity"
    content_type: bytes = JSON
    """What an engine is told that the body is: a form's own with its boundary, JSON for all
    others, whatever the client calls them."""
    is_multipart: bool = False
    """The body is multipart/form-data."""
    authorization: bytes | None = None
    has_wishes: bool = False
    """One of the next five is there."""
    session: bytes | None = None
    request_type: bytes | None = None
    priority: bytes | None = None
    deadline: bytes | None = None
    budget: bytes | None = None
    is_http10: bool = False
    """The client knows no chunks, no 100-continue and, here, no keep-alive."""
    expects_continue: bool = False

    def __init__(
        self, path: bytes, method: bytes = b"POST", version: str = "1.1", request_id: bytes = b""
    ) -> None:
        self.path = path
        self.method = method
        self.version = version
        self.request_id = request_id

    @property
    def has_no_body(self) -> bool:
        """The end of the head is the end of the request."""
        return not self.content_length and not self.is_chunked

    @property
    def boundary(self) -> bytes:
        """What stands between the parts of a form; empty if the head does not say."""
        return read_boundary(self.content_type)


def read_path(url: bytes) -> bytes | None:
    """The path of a request's target in origin or absolute form; None if it is neither."""
    if url.startswith(b"/"):
        return url.partition(b"?")[0]
    try:
        return httptools.parse_url(url).path or None
    except httptools.HttpParserInvalidURLError:
        return None


def without_upgrade(
    method: bytes, url: bytes, version: str, fields: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """The head of a request once more, without the field that names an upgrade."""
    lines = [b"%b: %b\r\n" % field for field in fields if field[0] != b"upgrade"]
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, url, version.encode(), b"".join(lines))


def head_size(url: bytes, fields: Iterable[tuple[bytes, bytes]]) -> int:
    """Bytes of a head, near enough for a limit."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in fields)


def read_head(
    path: bytes,
    method: bytes,
    version: str,
    fields: Iterable[tuple[bytes, bytes]],
) -> RequestHead:
    """Read the fields that matter. Of one that comes twice the last counts.

    Args:
        path: the path of the route, without a query.
        method: as it came.
        version: of HTTP, as it came.
        fields: names in lower case, and values.

    Returns:
        the head; its request id is empty if the client sent none, or one that is too long or
        has characters other than visible ASCII.
    """
    found = dict(fields)
    length = found.get(b"content-length")
    content_type = found.get(b"content-type", JSON)
    head = RequestHead(path, method, version)
    if length is not None:
        head.content_length = int(length)  # llhttp takes digits only
    head.authorization = found.get(b"authorization")
    # told apart here, not by the route: an engine must not get a form as JSON
    if content_type != JSON and content_type[: len(_FORM)].lower() == _FORM:
        head.content_type = content_type
        head.is_multipart = True
    if version != "1.1":
        head.is_http10 = version == "1.0"
    if not _RARE.isdisjoint(found):
        _read_rare_fields(head, found)
    return head


def _read_rare_fields(head: RequestHead, found: Mapping[bytes, bytes]) -> None:
    request_id = found.get(b"x-request-id", b"")
    if _REQUEST_ID.fullmatch(request_id):
        head.request_id = request_id
    api_key = found.get(b"x-api-key")
    if api_key is not None and not head.authorization:  # as Anthropic's clients say it
        head.authorization = b"Bearer " + api_key
    encoding = found.get(b"transfer-encoding")
    if encoding is not None:
        head.is_chunked = True
        head.transfer_encoding = encoding.strip().lower()
    head.content_encoding = found.get(b"content-encoding", b"identity").strip().lower()
    head.expects_continue = found.get(b"expect", b"").lower() == b"100-continue"
    head.priority = found.get(b"x-sagepool-priority")
    head.deadline = found.get(b"x-sagepool-deadline-ms")
    head.budget = found.get(b"x-sagepool-budget")
    head.session = found.get(b"x-session-id")
    head.request_type = found.get(b"x-sagepool-request-type")
    head.has_wishes = not _WISHES.isdisjoint(found)


def find_refusal(head: RequestHead, limits: Limits) -> RouterError | None:
    """Why the request is refused before its body is read, or None."""
    if head.version != "1.1" and head.version != "1.0":
        return InvalidRequest(
            f"HTTP/{head.version} is not spoken here: use HTTP/1.1",
            "http_version_not_supported",
            status=505,
        )
    if head.method != b"POST":
        return InvalidRequest(
            f"{head.method.decode('latin-1')} is not allowed here: use POST",
            "method_not_allowed",
            status=405,
            headers={"allow": "POST"},
        )
    length = head.content_length
    if length is None:
        if not head.is_chunked:
            return InvalidRequest(
                "the request has no length: send content-length or transfer-encoding: chunked",
                "length_required",
                status=411,
            )
    elif length > limits.max_body_bytes:
        return body_too_large(limits)
    if head.transfer_encoding != b"chunked":
        return InvalidRequest(
            "transfer-encoding must be chunked", "unsupported_transfer_encoding", status=501
        )
    if head.content_encoding != b"identity":
        return InvalidRequest(
            "compressed bodies are not read: send it plain, without content-encoding",
            "unsupported_content_encoding",
            status=415,
        )
    return None


def body_too_large(limits: Limits) -> InvalidRequest:
    """The body is above the limit."""
    return InvalidRequest(
        f"the body is larger than {limits.max_body_bytes} bytes", "body_too_large", status=413
    )


def head_too_large(limits: Limits) -> InvalidRequest:
    """The request's line and fields are above the limit."""
    return InvalidRequest(
        f"the request's head is larger than {limits.max_head_bytes} bytes",
        "head_too_large",
        status=431,
    )


def malformed() -> InvalidRequest:
    """The bytes are no HTTP request."""
    return InvalidRequest("the request is not valid HTTP", "invalid_http")


def head_timed_out() -> InvalidRequest:
    """The head did not come in time."""
    return InvalidRequest("the request's head took too long", "head_timeout", status=408)


def body_timed_out() -> InvalidRequest:
    """The body did not come in time."""
    return InvalidRequest("the request's body took too long", "body_timeout", status=408)
