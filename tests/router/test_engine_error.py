"""Errors of engines in one shape."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.engine_error import to_openai


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            {"error": "Model is overloaded", "error_type": "overloaded"},
            {"message": "Model is overloaded", "type": "overloaded", "code": "overloaded"},
        ),
        (
            {"message": "inputs is empty", "code": 400, "type": "empty"},
            {"message": "inputs is empty", "type": "empty", "code": 400},
        ),
        (
            {"object": "error", "message": "no", "type": "T", "param": "top_p", "code": 400},
            {"message": "no", "type": "T", "param": "top_p", "code": 400},
        ),
        ({"error": "alone"}, {"message": "alone", "type": None, "code": None}),
        (
            {"error": "", "error_type": "backend"},
            {"message": "", "type": "backend", "code": "backend"},
        ),
    ],
)
def test_an_unwrapped_error_is_wrapped(body: object, error: dict[str, object]) -> None:
    written = to_openai(json.dumps(body).encode())
    assert json.loads(written) == {"error": {"param": None, **error}}


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "too long",  "type": "BadRequestError", "code": 400}}',
        b'{"error": {"message": "no"}, "message": "outside"}',
        b'{"detail": "Not Found"}',
        b'{"error": null}',
        b'{"message": 3}',
        b"[]",
        b"",
        b"<html>Bad Gateway</html>",
        b'{"error": "cut',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_all_else_stays_as_it_is(body: bytes) -> None:
    assert to_openai(body) is body


_VALUES = st.one_of(st.none(), st.text(), st.integers(), st.dictionaries(st.text(), st.text()))
_FIELDS = st.sampled_from(["error", "error_type", "message", "type", "code", "param", "other"])


@given(st.dictionaries(_FIELDS, _VALUES).map(lambda fields: json.dumps(fields).encode()))
def test_what_is_wrapped_once_is_wrapped(body: bytes) -> None:
    once = to_openai(body)
    assert to_openai(once) is once
    assert once is body or isinstance(json.loads(once)["error"]["message"], str)
