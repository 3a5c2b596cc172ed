"""An alias is replaced in the bytes of a body; nothing else is touched."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.splice import replace_model


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"new"}'),
        (b'{ "model" : "a" , "n": 1.50 }', b'{ "model" : "new" , "n": 1.50 }'),
        (b'{"x":{"model":"a"},"model":"a"}', b'{"x":{"model":"a"},"model":"new"}'),
        (b'{"x":["model","a"],"model":"a"}', b'{"x":["model","a"],"model":"new"}'),
        (b'{"x":"model","model":"a"}', b'{"x":"model","model":"new"}'),
        (b'{"model":"a","x":{"model":"a"}}', b'{"model":"new","x":{"model":"a"}}'),
        (b'{"model":"a","model":"b"}', b'{"model":"a","model":"new"}'),
        (b'{"mod\\u0065l":"a"}', b'{"mod\\u0065l":"new"}'),
        (b'{"model":"a\\"b\\\\"}', b'{"model":"new"}'),
        (b'{"x":"\\"model\\":\\"a\\"","model":"a"}', b'{"x":"\\"model\\":\\"a\\"","model":"new"}'),
        (
            b'{"big":123456789012345678901234567890,"model":"a"}',
            b'{"big":123456789012345678901234567890,"model":"new"}',
        ),
        (
            b'{"x":{"y":[{"z":1}]},"model":"a","y":[1,2]}',
            b'{"x":{"y":[{"z":1}]},"model":"new","y":[1,2]}',
        ),
    ],
)
def test_only_the_value_of_the_models_name_changes(body: bytes, expected: bytes) -> None:
    assert replace_model(body, "new") == expected


def test_a_name_is_written_as_json() -> None:
    assert replace_model(b'{"model":"a"}', 'q"\\') == b'{"model":"q\\"\\\\"}'


keys = st.sampled_from(["model", "mod\\el", 'mo"del', "x", "models", ""]) | st.text(max_size=5)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | keys,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])


@given(
    st.dictionaries(keys, values, max_size=5),
    st.text(min_size=1, max_size=8),
    st.text(min_size=1, max_size=8),
    separators,
    st.booleans(),
)
def test_the_body_means_the_same_but_for_the_model(
    fields: dict[str, object],
    old: str,
    new: str,
    separator: tuple[str, str],
    is_ascii: bool,
) -> None:
    fields["model"] = old
    body = json.dumps(fields, separators=separator, ensure_ascii=is_ascii, allow_nan=False)
    new = new.encode("utf-8", "replace").decode()
    payload = body.encode("utf-8", "replace")
    assert json.loads(replace_model(payload, new)) == {**json.loads(payload), "model": new}


@given(st.dictionaries(keys, values, max_size=4), st.lists(keys, max_size=3))
def test_everything_around_the_value_keeps_its_bytes(
    fields: dict[str, object], names: list[str]
) -> None:
    fields.pop("model", None)
    before = "".join(f"{json.dumps(k)}:{json.dumps(v)}," for k, v in fields.items())
    after = "".join(f",{json.dumps(k)}:1" for k in names if k != "model")
    body = '{%s"model":%s%s}'
    spliced = replace_model((body % (before, '"old"', after)).encode(), "new")
    assert spliced == (body % (before, '"new"', after)).encode()
