"""What the router has to answer where plain uvicorn answers something: the same, but for what is
meant to differ."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from router_http_echo import EARLY, Seen
from router_http_fronts import LIMITS, MODEL, Outcome
from router_wire import CHAT
from sagepool_router.errors import InvalidRequest
from sagepool_router.facts import ENDPOINTS, classify
from sagepool_router.request_head import RequestHead

_STATUS: Final = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\Z")


@dataclass(frozen=True)
class Reply:
    """An answer as the client got it, with the interim ones before it."""

    status: int
    body: bytes
    closes: bool
    invitations: int


def read_replies(heard: bytes, methods: list[bytes]) -> tuple[list[Reply], int]:
    """Cut what came into answers.

    Args:
        heard: all that came.
        methods: of the requests, in their order; answers to HEAD have no body.

    Returns:
        the answers, and how many invitations to go on came behind the last.
    """
    replies: list[Reply] = []
    invitations = 0
    while heard:
        head, separator, heard = heard.partition(b"\r\n\r\n")
        assert separator, "an answer breaks off in its head"
        line, *lines = head.split(b"\r\n")
        found = _STATUS.match(line)
        assert found is not None, line
        status = int(found[1])
        if status == 100:
            invitations += 1
            continue
        fields = {n.lower(): v for n, _, v in (field.partition(b": ") for field in lines)}
        assert len(fields) == len(lines), "a field came twice"
        is_to_head = methods[len(replies) : len(replies) + 1] == [b"HEAD"]
        # who cannot read a request does not know its method
        size = 0 if is_to_head and status not in (400, 431) else int(fields[b"content-length"])
        assert len(heard) >= size
        closes = fields.get(b"connection") == b"close"
        replies.append(Reply(status, heard[:size], closes, invitations))
        heard, invitations = heard[size:], 0
    return replies, invitations


@dataclass(frozen=True)
class Due:
    """What the router has to answer."""

    status: int
    closes: bool
    body: bytes | None = None
    """None: an error in the router's words."""
    is_for_engine: bool = False
    max_invitations: int = 0
    is_early: bool = False
    """The app may have answered before it was known that the body is broken."""


@dataclass(frozen=True)
class Difference:
    """A request that uvicorn would hand to the app and that the router refuses by its head."""

    status: int
    why: str
    applies: Callable[[Seen], bool]


DIFFERENCES: Final = (
    Difference(
        505,
        "llhttp lets 0.9 and 2.0 pass, which no engine is asked in",
        lambda seen: seen.version not in ("1.0", "1.1"),
    ),
    Difference(405, "inference is POST", lambda seen: seen.method != b"POST"),
    Difference(
        411,
        "a POST without a length is a mistake, not an empty body",
        lambda seen: seen.field(b"content-length") is None and not _is_coded(seen),
    ),
    Difference(
        413,
        "a body has a limit",
        lambda seen: int(seen.field(b"content-length") or 0) > LIMITS.max_body_bytes,
    ),
    Difference(
        501,
        "llhttp undoes no coding but chunked: the body would not be what it is said to be",
        lambda seen: _is_coded(seen) and _coding(seen) != b"chunked",
    ),
    Difference(
        415,
        "engines read no compressed bodies",
        lambda seen: (seen.field(b"content-encoding") or b"identity") != b"identity",
    ),
)


def _coding(seen: Seen) -> bytes:
    return (seen.field(b"transfer-encoding") or b"").strip().lower()


def _is_coded(seen: Seen) -> bool:
    return seen.field(b"transfer-encoding") is not None


def what_is_due(plain: Outcome) -> tuple[list[Due], range]:
    """Of the router, on a connection that went so with uvicorn.

    Returns:
        its answers, and how many invitations may follow.
    """
    replies, _ = read_replies(plain.heard, [seen.method for seen in plain.seen])
    due: list[Due] = []
    for seen, reply in zip(plain.seen, [*replies, None], strict=False):
        is_broken = reply is not None and reply.status == 400
        found = _due_of(seen, None if is_broken else reply, is_broken=is_broken)
        if found is None:
            return due, _invitations(seen)
        due.append(found)
        if found.closes:
            return due, range(1)
    if len(replies) > len(due):
        assert replies[-1].status == 400
        due.append(Due(400, closes=True))
    return due, range(1)


def _due_of(seen: Seen, reply: Reply | None, *, is_broken: bool) -> Due | None:
    """None: the request is not complete, and nothing is wrong with it yet."""
    most = max(_invitations(seen))
    closes = reply is not None and reply.closes
    if seen.method == b"CONNECT":
        return Due(400, closes=True)  # nobody is connected to from here
    if seen.path != CHAT.encode():
        if reply is not None:
            return Due(200, closes, reply.body, max_invitations=most)
        is_early = seen.path == EARLY
        due = Due(400, closes=True, max_invitations=most, is_early=is_early)
        return due if is_broken else None
    has_body = _is_coded(seen) or int(seen.field(b"content-length") or 0) > 0
    for difference in DIFFERENCES:
        if difference.applies(seen):
            return Due(difference.status, closes or has_body)
    if len(seen.body) > LIMITS.max_body_bytes:
        return Due(413, closes=True, max_invitations=most)
    if is_broken:
        return Due(400, closes=True, max_invitations=most)
    if not seen.is_complete:
        return None
    status = _judge_body(seen.body)
    if status != 200:
        return Due(status, closes, max_invitations=most)
    return Due(200, closes, seen.echo, is_for_engine=True, max_invitations=most)


def _invitations(seen: Seen) -> range:
    """How many 100-continue the client may get: none if its body does not wait for one."""
    if not any(n == b"expect" and v.lower() == b"100-continue" for n, v in seen.fields):
        return range(1)
    if seen.path == EARLY:
        return range(1)
    if seen.path != CHAT.encode():
        return range(0 if seen.is_complete else 1, 2)  # uvicorn invites at all events
    if seen.version != "1.1":
        return range(1)
    return range(0 if seen.body or seen.is_complete else 1, 2)


def _judge_body(body: bytes) -> int:
    """The app takes any body, an engine gets what it can read."""
    path = CHAT.encode()
    try:
        facts = classify(ENDPOINTS[path], body, RequestHead(path))
    except InvalidRequest as error:
        return error.status
    return 200 if facts.model == MODEL else 404
