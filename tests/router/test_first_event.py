"""A stream that begins with an error is recognised by its first event."""

import pytest

from sagepool_router.first_event import StreamError, find_error, is_complete

ERROR = b'{"error": {"message": "x", "code": 503}}'


@pytest.mark.parametrize(
    ("data", "complete"),
    [
        (b"", False),
        (b"data: 1", False),
        (b"data: 1\n", False),
        (b"data: 1\n\n", True),
        (b"data: 1\r\n\r\n", True),
        (b": ping\n\n", True),
    ],
)
def test_an_event_ends_with_a_blank_line(data: bytes, complete: bool) -> None:
    assert is_complete(data) is complete


@pytest.mark.parametrize(
    "data",
    [
        b"data: " + ERROR + b"\n\ndata: [DONE]\n\n",
        b"data:" + ERROR + b"\n\n",
        b"\n\ndata: " + ERROR + b"\r\n\r\n",
    ],
)
def test_an_error_gives_its_status_and_its_own_json(data: bytes) -> None:
    assert find_error(data) == StreamError(503, ERROR)


@pytest.mark.parametrize("code", ["null", '"bad"', "200", "700", "true", "[]"])
def test_an_error_without_a_status_is_a_502(code: str) -> None:
    error = find_error(f'data: {{"error":{{"code":{code}}}}}\n\n'.encode())
    assert error is not None
    assert error.status == 502


def test_an_error_may_be_a_text() -> None:
    assert find_error(b'data: {"error":"dead"}\n\n') == StreamError(502, b'{"error":"dead"}')


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [
        # Responses: the error of the response, of the event, or the event itself
        (
            b'event: response.failed\ndata: {"type":"response.failed","sequence_number":0,'
            b'"response":{"id":"r","error":{"code":"server_error","message":"x"}}}\n\n',
            500,
            b'{"error":{"code":"server_error","message":"x"}}',
        ),
        (
            b'event: error\r\ndata: {"code":"rate_limit_exceeded","message":"x","param":null,'
            b'"sequence_number":0,"type":"error"}\r\n\r\n',
            429,
            b'{"error":{"code":"rate_limit_exceeded","message":"x","param":null,'
            b'"sequence_number":0,"type":"error"}}',
        ),
        (
            b'data: {"type":"error","code":null,"message":"x"}\n\n',
            502,
            b'{"error":{"type":"error","code":null,"message":"x"}}',
        ),
        (b"event: error\ndata: " + ERROR + b"\n\ndata: [DONE]\n\n", 503, ERROR),
        # Messages
        *[
            (b"event: error\ndata: " + body + b"\n\n", status, body)
            for status, body in [
                (400, b'{"type":"error","error":{"type":"invalid_request_error","message":"x"}}'),
                (500, b'{"type":"error","error":{"type":"internal_error","message":"x"}}'),
                (503, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}'),
                (502, b'{"type":"error","error":{"type":"of another world","message":"x"}}'),
            ]
        ],
        (b'event:error\ndata:{"error":\ndata:"dead"}\n\n', 502, b'{"error":\n"dead"}'),
    ],
)
def test_each_dialect_tells_its_error_and_its_status(data: bytes, status: int, body: bytes) -> None:
    assert find_error(data) == StreamError(status, body)


@pytest.mark.parametrize(
    "data",
    [
        b"event: error\ndata: it is dead\n\n",
        b"event: error\n\n",
        b'event: error\ndata: {"code":\n\n',
        b'event: error\ndata: {"error":[1]}\n\n',
        b"event: response.failed\ndata: {}\n\n",
        b'event: response.failed\ndata: {"response":{"error":null}}\n\n',
    ],
)
def test_an_event_named_as_an_error_is_one_even_if_it_cannot_be_read(data: bytes) -> None:
    error = find_error(data)
    assert error is not None
    assert error.status == 502
    assert b'"code":"engine_failed"' in error.body


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"choices":[{"text":"","finish_reason":"abort"}]}\n\n',
        b'\r\ndata: {"choices":[{"delta":{}, "finish_reason": "abort"}]}\r\n\r\ndata: 2\n\n',
    ],
)
def test_a_stream_that_begins_with_its_abort_is_a_502(data: bytes) -> None:
    error = find_error(data)
    assert error is not None
    assert error.status == 502
    assert b'"code":"engine_failed"' in error.body


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"choices":[{"text":"a","finish_reason":null}]}\n\n'
        b'data: {"choices":[{"text":"b","finish_reason":"abort"}]}\n\n',
        b'data: {"choices":[{"text":"\\"finish_reason\\":\\"abort\\""}]}\n\n',
        b'data: {"choices":[{"text":"abort","finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\"error\\""}}]}\n\n',
        b'data: {"error":null,"choices":[]}\n\n',
        b'data: {"error"\n\n',
        b'data: {"error":5}\n\n',
        b'data: {"errors":{"code":500}}\n\n',
        b'event: {"error":{}}\n\n',
        b'event: response.created\ndata: {"type":"response.created","response":{"error":null}}\n\n',
        b'event: response.created\ndata: {}\n\nevent: error\ndata: {"type":"error"}\n\n',
        b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n',
        b'event: ping\ndata: {"type":"ping"}\n\nevent: error\ndata: {"type":"error"}\n\n',
        b'event: errors\ndata: {"type":"errors"}\n\n',
        b'data: {"type":"response.failed","response":null}\n\n',
        b": ping\n\n",
    ],
)
def test_everything_else_is_a_stream(data: bytes) -> None:
    assert find_error(data) is None
