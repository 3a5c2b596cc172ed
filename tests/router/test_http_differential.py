"""The router against plain uvicorn: the same bytes, however they come, lead to the same requests
and the same answers, but for what is meant to differ."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from router_http_fronts import LIMITS, Outcome, ask_router, ask_uvicorn, no_errors_logged
from router_http_grammar import Stream, streams
from router_http_judge import Due, Reply, read_replies, what_is_due
from router_memory_loop import MemoryLoop
from router_wire import CHAT, chat_body, chunked, raw
from sagepool_router.request_head import head_size

T = TypeVar("T")


def run(life: Coroutine[Any, Any, T]) -> T:
    with no_errors_logged(), asyncio.Runner(loop_factory=MemoryLoop) as runner:
        result = runner.run(life)
        loop = runner.get_loop()
        assert isinstance(loop, MemoryLoop)
        assert not loop.mistakes
        return result


async def ask_both(stream: Stream) -> tuple[Outcome, Outcome]:
    router = await ask_router(
        stream.reads, stream.ending, delay_s=stream.delay_s, is_patient=stream.is_patient
    )
    return await ask_uvicorn(stream.plain), router


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    phases=(Phase.generate, Phase.shrink),  # to explain a failure would take longer than to find it
)
@given(streams())
def test_what_comes_is_read_and_answered_as_by_plain_uvicorn(stream: Stream) -> None:
    plain, router = run(ask_both(stream))
    due, invitations = what_is_due(plain)
    replies, further = read_replies(router.heard, [seen.method for seen in plain.seen])
    if stream.is_large:
        check_heads(stream, plain, replies)
        if replies and replies[-1].status == 431:
            due[len(replies) - 1 :] = [Due(431, closes=True, max_invitations=1)]
    allow_early_answer(due, replies)
    check_answers(due, replies)
    to_engine = [seen.body for seen, one in zip(plain.seen, due, strict=False) if one.is_for_engine]
    assert router.bodies == to_engine[: len(router.bodies)], "more than uvicorn lets pass"
    if stream.ending == "stays":
        assert len(replies) == len(due)
        assert router.bodies == to_engine
        assert further in invitations
        assert router.is_open == (not due or not due[-1].closes)


def allow_early_answer(due: list[Due], replies: list[Reply]) -> None:
    """To the last request, whose body is broken behind what the app wanted of it."""
    at = len(due) - 1
    if due and due[at].is_early and replies[at:] and replies[at].status == 200:
        if replies[at].closes:
            due[at] = Due(200, closes=True)
        else:
            del replies[at]


def check_answers(due: list[Due], replies: list[Reply]) -> None:
    assert len(replies) <= len(due), "more than there are requests"
    for wanted, reply in zip(due, replies, strict=False):
        assert (reply.status, reply.closes) == (wanted.status, wanted.closes)
        if wanted.body is not None:
            assert reply.body == wanted.body
        assert reply.invitations <= wanted.max_invitations


def check_heads(stream: Stream, plain: Outcome, replies: list[Reply]) -> None:
    """A head is never larger than the limit and the read that it begins in."""
    limit = LIMITS.max_head_bytes + max(len(read) for read in stream.reads)
    for seen, reply in zip(plain.seen, replies, strict=False):
        assert reply.status == 431 or head_size(b"", seen.fields) <= limit


# What was found so.

BODY = chat_body("m")
LENGTH = f"content-length: {len(BODY)}"
UPGRADE = ("connection: Upgrade", "upgrade: h2c")
GOOD = raw(CHAT, BODY, LENGTH)


def ask(*reads: bytes) -> tuple[list[int], Outcome]:
    """The statuses of the answers to what comes; earlier reads are answered before later ones."""
    delay_s = 0.01 if len(reads) == 1 else 0.0
    outcome = run(ask_router(reads, "stays", delay_s=delay_s, is_patient=True))
    return [reply.status for reply in read_replies(outcome.heard, [])[0]], outcome


@pytest.mark.parametrize(
    ("method", "field", "status"),
    [("PUT", LENGTH, 405), ("POST", "content-length: 401", 413), ("GET", "x: y", 405)],
)
def test_a_refusal_behind_an_upgrade_leaves_the_requests_before_it_alone(
    method: str, field: str, status: int
) -> None:
    statuses, outcome = ask(GOOD + raw(CHAT, b"", field, *UPGRADE, method=method))
    assert statuses == [200, status]
    assert outcome.bodies == [BODY]


def test_http_1_0_stays_what_it_is_behind_an_upgrade() -> None:
    statuses, outcome = ask(raw(CHAT, BODY, LENGTH, *UPGRADE, version="1.0") + GOOD)
    assert (statuses, outcome.is_open) == ([200], False)


def test_http_2_0_is_a_505_behind_an_upgrade() -> None:
    assert ask(raw(CHAT, BODY, LENGTH, *UPGRADE, version="2.0"))[0] == [505]


@pytest.mark.parametrize("path", [CHAT, "/echo"])
def test_connection_close_is_obeyed_beside_an_upgrade(path: str) -> None:
    fields = ("connection: close, Upgrade", "upgrade: h2c")
    statuses, outcome = ask(raw(path, BODY, LENGTH, *fields) + GOOD)
    assert (statuses, outcome.is_open) == ([200], False)


def test_thousands_of_upgrades_in_one_read_are_answered() -> None:
    count = 1501
    statuses, outcome = ask(raw("/echo", b"", *UPGRADE, method="GET") * count)
    assert (statuses, outcome.is_open) == ([200] * count, True)


@pytest.mark.parametrize("earlier", [GOOD, raw("/echo", b"", method="GET")])
def test_a_broken_body_for_the_app_is_told_after_the_answers_before_it(earlier: bytes) -> None:
    broken = raw("/echo", b"no size\r\n", "transfer-encoding: chunked")
    statuses, outcome = ask(earlier + earlier + broken)
    assert (statuses, outcome.is_open) == ([200, 200, 400], False)


@pytest.mark.parametrize(
    "last",
    [
        raw(CHAT, b"x", "content-length: 1", "connection: keep-alive", version="1.0"),
        raw(CHAT, b"", "connection: keep-alive", method="GET", version="1.0"),
        raw(CHAT, chunked(b"x"), "transfer-encoding: gzip, chunked"),
    ],
    ids=["body", "method", "coding"],
)
def test_nothing_is_read_behind_a_refusal_that_closes(last: bytes) -> None:
    statuses, outcome = ask(GOOD, last + GOOD + GOOD)  # the engine could be reached at once
    assert (len(statuses), outcome.bodies) == (2, [BODY])
    statuses, outcome = ask(GOOD + last + GOOD + GOOD)
    assert (len(statuses), outcome.bodies) == (2, [BODY])
