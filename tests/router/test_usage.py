"""Token usage from the end of an answer, however it was cut into reads."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.relay import AnswerRelay
from sagepool_router.usage import Usage, find_usage

STREAM = b"".join(b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n' for _ in range(60))
EVENT = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9}}\n\n'
END = EVENT + b"data: [DONE]\n\n"


def passed_on(*reads: bytes) -> AnswerRelay:
    relay = AnswerRelay(lambda _: None, 200, True, True, 0.0)
    for read in reads:
        relay.pass_on(read)
    return relay


def usage_of(*reads: bytes) -> Usage | None:
    return passed_on(*reads).usage()


@given(st.lists(st.integers(1, 300), min_size=1, max_size=80))
def test_the_cuts_between_reads_do_not_matter(sizes: list[int]) -> None:
    text = STREAM + END
    reads, start, turn = [], 0, 0
    while start < len(text):
        size = sizes[turn % len(sizes)]
        reads.append(text[start : start + size])
        start, turn = start + size, turn + 1
    assert usage_of(*reads) == Usage(7, 9)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 7, "output_tokens": 9, "total_tokens": 16}, Usage(7, 9)),
        ({"output_tokens": 9}, Usage(None, 9)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "input_tokens": 7}, Usage(3, 4)),
    ],
    ids=["responses", "messages", "both"],
)
def test_responses_and_messages_name_tokens_otherwise(
    usage: dict[str, int], expected: Usage
) -> None:
    assert usage_of(b'event: x\ndata: {"usage": %b}\n\n' % json.dumps(usage).encode()) == expected


def test_a_long_answer_in_one_read_has_its_usage_at_the_end() -> None:
    body = {"data": [0.5] * 10_000, "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    assert usage_of(json.dumps(body).encode()) == Usage(5, None)


def test_what_is_kept_of_a_long_stream_stays_small() -> None:
    relay = passed_on(*(b"x" * size for size in (10, 500, 5000, 1_000_000, 100) * 50))
    assert sum(len(read) for read in relay.tail) < 64_000


@pytest.mark.parametrize(
    ("text", "usage"),
    [
        (b'{"usage":{"prompt_tokens":1,"completion_tokens":2}}', Usage(1, 2)),
        (b'{"usage" : {"prompt_tokens": 1, "completion_tokens": 2}}', Usage(1, 2)),
        (b'{"usage":{"d":{"cached":1},"prompt_tokens":1,"completion_tokens":2}}', Usage(1, 2)),
        (b'"usage":{"prompt_tokens":1} "usage":{"prompt_tokens":3}', Usage(3, None)),
        (b'"usage":{"prompt_tokens":4,"completion_tokens":1}, "usage":null', Usage(4, 1)),
        (b'{"usage":null}', None),
        (b'{"content":"\\"usage\\":{\\"prompt_tokens\\":1}"}', None),
        (b'{"usage":{"prompt_tokens":', None),
        (b'{"usage":{"prompt_tokens":"many"}}', None),
        (b"", None),
    ],
)
def test_only_the_last_whole_usage_counts(text: bytes, usage: Usage | None) -> None:
    assert find_usage(text) == usage
