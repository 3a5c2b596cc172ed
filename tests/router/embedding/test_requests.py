"""Embedding requests are cut into texts and parameters, and written again with others' texts."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.embedding.merge import write_request
from sagepool_router.embedding.request import EmbeddingRequest, read_request
from sagepool_router.facts import ENDPOINTS, classify
from sagepool_router.request_head import RequestHead

MESSAGES = [{"role": "user", "content": "hello"}]


def read(body: object) -> EmbeddingRequest:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    classify(ENDPOINTS[b"/v1/embeddings"], payload, RequestHead(b"/v1/embeddings"))
    return read_request(payload)


def parameters(**fields: object) -> bytes:
    return read({"model": "m", "input": "x", **fields}).parameters


@pytest.mark.parametrize(
    ("written", "texts"),
    [
        ('"one"', ['"one"']),
        (' "one" ', ['"one"']),
        ('["one"]', ['"one"']),
        ('[ "one" ,\n"two" ]', ['"one"', '"two"']),
        ('["a,]\\"[", "\\u00e4", "ä"]', ['"a,]\\"["', '"\\u00e4"', '"ä"']),
        ("[1,2,3]", ["[1,2,3]"]),
        ("[ 7 ]", ["[ 7 ]"]),
        ("[[1,2],[ 3 ]]", ["[1,2]", "[ 3 ]"]),
        ("[\n[1, 2]\n]", ["[1, 2]"]),
    ],
)
def test_texts_keep_their_bytes_and_order(written: str, texts: list[str]) -> None:
    request = read(f'{{"model":"m","input":{written}}}'.encode())
    assert [text.decode() for text in request.texts] == texts
    assert request.is_mergeable


@pytest.mark.parametrize(
    ("given_input", "tokens"),
    [
        ("x", (1,)),
        ("x" * 7, (1,)),
        ("x" * 120, (30,)),
        (["x" * 8, "x" * 12, "x"], (2, 3, 1)),
        ([5], (1,)),
        ([1, 2, 3], (3,)),
        ([[1, 2], [3]], (2, 1)),
    ],
)
def test_tokens_are_counted_or_estimated(given_input: object, tokens: tuple[int, ...]) -> None:
    assert read({"model": "m", "input": given_input}).tokens == tokens


def test_of_duplicate_keys_the_last_counts_as_it_does_at_the_engine() -> None:
    body = b'{"model":"m","input":"first","dimensions":1,"input":["last"],"dimensions":2}'
    request = read(body)
    assert request.texts == (b'"last"',)
    assert request.parameters == parameters(dimensions=2)


def test_a_key_may_be_written_with_escapes() -> None:
    request = read(b'{"mod\\u0065l":"m","\\u0069nput":"x","us\\u0065r":"u"}')
    assert request == read({"model": "m", "input": "x"})


SAME = [
    ({}, {"user": "somebody"}),
    ({}, {"priority": 3}),
    ({}, {"dimensions": None}),
    ({}, {"encoding_format": None}),
    ({}, {"messages": None}),
    ({"dimensions": 8}, {"user": "x", "dimensions": 8, "encoding_format": None}),
    ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
    ({"encoding_format": "base64", "a": 1}, {"a": 1, "encoding_format": "base64"}),
]
DIFFERENT = [
    ({}, {"dimensions": 8}),
    ({"dimensions": 8}, {"dimensions": 9}),
    ({}, {"encoding_format": "base64"}),
    ({"encoding_format": "float"}, {"encoding_format": "base64"}),
    ({}, {"unknown": None}),
    ({"unknown": 1}, {"unknown": "1"}),
    ({"unknown": 1}, {"unknowm": 1}),
    ({"cache_salt": "a"}, {"cache_salt": "b"}),
    ({"truncate_prompt_tokens": 5}, {"truncate_prompt_tokens": 6}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_engines_do_not_tell_apart_may_share_a_call(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert parameters(**one) == parameters(**other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_engines_may_tell_apart_may_not(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert parameters(**one) != parameters(**other)


def test_the_model_is_no_parameter() -> None:
    assert read({"model": "a", "input": "x"}) == read({"model": "b", "input": "x"})


def test_strings_and_token_ids_never_share_a_call() -> None:
    ids = read({"model": "m", "input": [1, 2], "dimensions": 8})
    lists = read({"model": "m", "input": [[1, 2], [3]], "dimensions": 8})
    strings = read({"model": "m", "input": ["x"], "dimensions": 8})
    assert ids.parameters == lists.parameters != strings.parameters


@pytest.mark.parametrize("encoding", ["bytes", "bytes_only", "int8", "Float", "", 1, ["float"]])
def test_other_encodings_travel_alone(encoding: object) -> None:
    request = read({"model": "m", "input": ["a", "b"], "encoding_format": encoding})
    assert not request.is_mergeable
    assert request.texts == (b'"a"', b'"b"')


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_openais_encodings_are_merged(encoding: str | None) -> None:
    assert read({"model": "m", "input": "x", "encoding_format": encoding}).is_mergeable


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": MESSAGES},
        {"messages": MESSAGES, "input": None},
        {"messages": MESSAGES, "input": "x"},
        {"input": ["a", [1]]},
        {"input": [[1], "a"]},
        {"input": ["a", None]},
        {"input": [{"text": "a"}]},
        {"input": [1, "a"]},
        {"input": [1, [2]]},
        {"input": [[1, "a"]]},
        {"input": [[1, [2]]]},
        {"input": [1.5]},
        {"input": [-1]},
        {"input": [[1], [2.5]]},
        {"input": [True]},
    ],
)
def test_what_only_the_engine_understands_travels_alone(fields: dict[str, object]) -> None:
    assert not read({"model": "m", **fields}).is_mergeable


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"input":',
        b'{"input":[]}',
        b'{"input":{}}',
        b'{"input":"x","\xff":1}',
        b'{"input":' + b"[" * 100_000 + b"1" + b"]" * 100_000 + b"}",
        b'{"input":"x","a":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    ],
    ids=range(8),
)
def test_what_cannot_be_read_is_left_to_the_engine(body: bytes) -> None:
    assert read_request(body) == EmbeddingRequest(b"", (), (), False)


def test_a_merged_request_is_written_as_clients_wrote_its_parts() -> None:
    a = read(b'{"input":["\\u00e4", "b"],"z": 1.50,"model":"alias","user":"u","y":{"k" : null}}')
    b = read(b'{"y":{"k" : null},"z":1.50,"model":"other","input":"c"}')
    assert a.parameters == b.parameters
    assert write_request('m"', a.parameters, a.texts + b.texts) == (
        b'{"model":"m\\"","y":{"k" : null},"z":1.50,"input":["\\u00e4","b","c"]}'
    )


def test_a_merged_request_of_token_ids_is_a_list_of_lists() -> None:
    request = read({"model": "m", "input": [1, 2], "dimensions": 4})
    merged = json.loads(write_request("m", request.parameters, request.texts * 2))
    assert merged == {"model": "m", "dimensions": 4, "input": [[1, 2], [1, 2]]}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
names = st.sampled_from(["dimensions", "user", "priority", "cache_salt", 'a"b', "ä"])
words = st.text(min_size=1).filter(str.strip)
ids = st.lists(st.integers(0, 2**31), min_size=1, max_size=5)
inputs = words | st.lists(words, min_size=1, max_size=5) | ids | st.lists(ids, min_size=1)
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])


@given(st.dictionaries(names, json_values), inputs, layouts, st.booleans(), st.randoms())
def test_a_request_written_again_means_the_same_but_for_what_engines_ignore(
    fields: dict[str, object],
    given_input: str | list[object],
    layout: tuple[str, str],
    is_ascii: bool,
    order: Random,
) -> None:
    members = [*fields.items(), ("model", "alias"), ("input", given_input)]
    order.shuffle(members)
    body = json.dumps(dict(members), separators=layout, ensure_ascii=is_ascii).encode()
    request = read(body)
    assert request.is_mergeable
    assert len(request.tokens) == len(request.texts)
    assert min(request.tokens) >= 1
    expected = {k: v for k, v in fields.items() if k not in ("user", "priority")}
    if expected.get("dimensions", 0) is None:
        del expected["dimensions"]
    is_one = isinstance(given_input, str) or isinstance(given_input[0], int)
    expected |= {"model": "m", "input": [given_input] if is_one else given_input}
    assert json.loads(write_request("m", request.parameters, request.texts)) == expected


@given(st.dictionaries(names, json_values), st.randoms())
def test_the_order_of_keys_does_not_matter(fields: dict[str, object], order: Random) -> None:
    members = [*fields.items(), ("model", "m"), ("input", "x")]
    one = read(dict(members))
    order.shuffle(members)
    assert read(dict(members)) == one


@given(st.dictionaries(names | st.just("input"), json_values))
def test_every_json_is_cut_or_left_to_the_engine(fields: dict[str, object]) -> None:
    request = read_request(json.dumps(fields).encode())
    assert request.is_mergeable <= bool(request.texts)
    if request.texts:
        texts = [json.loads(text) for text in request.texts]
        assert fields["input"] in (texts, texts[0])


@given(st.binary(max_size=60))
def test_every_sequence_of_bytes_is_cut_or_left_to_the_engine(rest: bytes) -> None:
    request = read_request(b'{"input":' + rest + b"}")
    assert len(request.tokens) == len(request.texts)
    assert request.is_mergeable <= bool(request.texts)
