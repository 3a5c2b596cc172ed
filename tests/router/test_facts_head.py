"""Which fields of a request's head the router acts on."""

import pytest

from sagepool_router.request_head import RequestHead, read_head


def head_of(*fields: tuple[bytes, bytes]) -> RequestHead:
    return read_head(b"/v1/chat/completions", b"POST", "1.1", fields)


def test_fields_that_matter_are_read() -> None:
    head = head_of(
        (b"host", b"x"),
        (b"authorization", b"Bearer secret"),
        (b"content-length", b"12"),
        (b"x-request-id", b"id-1"),
        (b"x-session-id", b"s"),
        (b"x-sagepool-priority", b"low"),
        (b"x-sagepool-deadline-ms", b"5"),
        (b"x-sagepool-request-type", b"embedding"),
    )
    assert head.authorization == b"Bearer secret"
    assert (head.content_length, head.request_id, head.session) == (12, b"id-1", b"s")
    assert (head.priority, head.deadline, head.request_type) == (b"low", b"5", b"embedding")


def test_what_is_not_sent_is_none() -> None:
    head = head_of((b"host", b"x"), (b"accept", b"*/*"))
    assert (head.authorization, head.session, head.request_type) == (None, None, None)
    assert (head.priority, head.deadline, head.content_length) == (None, None, None)


@pytest.mark.parametrize(
    "sent", [None, b"application/json", b"application/json; charset=utf-8", b"text/plain", b""]
)
def test_an_engine_gets_json_as_json_whatever_it_was_called(sent: bytes | None) -> None:
    head = head_of() if sent is None else head_of((b"content-type", sent))
    assert head.content_type == b"application/json"
    assert not head.is_multipart


@pytest.mark.parametrize("name", [b"multipart/form-data", b"Multipart/Form-Data"])
def test_an_engine_gets_a_forms_own_content_type(name: bytes) -> None:
    sent = name + b'; boundary="a;b"'
    head = head_of((b"content-type", sent))
    assert head.content_type == sent
    assert head.is_multipart
    assert head.boundary == b"a;b"
