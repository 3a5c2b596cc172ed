"""An engine's answer is cut into embeddings without reading their numbers, or refused."""

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.embedding.answer import (
    EmbeddingAnswer,
    MalformedAnswer,
    dimension,
    read_answer,
    write_answer,
)

USAGE = {"prompt_tokens": 5, "total_tokens": 6}


def item(index: object, embedding: object) -> dict[str, object]:
    return {"index": index, "object": "embedding", "embedding": embedding}


def answer(*data: object, **fields: object) -> bytes:
    body = {"object": "list", "data": list(data), "model": "m", "usage": USAGE}
    return json.dumps(body | fields, separators=(",", ":")).encode()


TWO = (item(0, [0.5, -1e-7]), item(1, "AACAPw=="))


def test_a_vllm_answer_is_cut() -> None:
    body = (
        b'{"id":"embd-1","object":"list","created":17,"model":"m","data":['
        b'{"index":0,"object":"embedding","embedding":[0.50,-1e-7]},'
        b'{"index":1,"object":"embedding","embedding":[1,2]}],'
        b'"usage":{"prompt_tokens":5,"total_tokens":6,"completion_tokens":0,'
        b'"prompt_tokens_details":null}}'
    )
    assert read_answer(body, 2) == EmbeddingAnswer(
        [b"[0.50,-1e-7]", b"[1,2]"], 5, 6, "m", has_id=True, created=b"17"
    )


def test_a_tei_answer_is_cut() -> None:
    body = (
        b'{"object":"list","data":['
        b'{"object":"embedding","embedding":"AACAPw==","index":0},'
        b'{"object":"embedding","embedding":"AAAAQA==","index":1}],'
        b'"model":"m","usage":{"prompt_tokens":5,"total_tokens":5}}'
    )
    assert read_answer(body, 2) == EmbeddingAnswer([b'"AACAPw=="', b'"AAAAQA=="'], 5, 5, "m")


def test_embeddings_come_in_the_order_of_the_texts() -> None:
    body = answer(item(2, [2]), item(0, [0]), item(1, [1]))
    assert read_answer(body, 3).embeddings == [b"[0]", b"[1]", b"[2]"]


@pytest.mark.parametrize(
    "body",
    [
        answer(*TWO, model='#"embedding":[7]'),
        answer(*TWO, model="#"),
        answer(*TWO, model='"embedding":['),
        answer(*TWO, note={"embedding": [9]}),
        answer(*TWO, embedding=[9]),
        answer(*TWO, id={"embedding": [9]}),
        answer(*TWO, note={'x"embedding': [9]}),
        answer(*TWO, note='{"embedding":[9'),
        answer({**TWO[0], "nested": [{"embedding": [3, [4]]}]}, TWO[1]),
        answer(*TWO).replace(b'"embedding":', b'"embedding" :\n\t'),
        answer(*TWO).replace(b"[0.5", b"[ 0.5").replace(b'{"index"', b'{\n"index"'),
        answer(*TWO).replace(b'"embedding":[', b'"embedding":[8],"embedding":['),
        answer(*TWO).replace(b'"embedding":[', b'"embedding":"#0","embedding":['),
        answer(*TWO).replace(b'"embedding":"', b'"embedding":[8],"embedding":"'),
        answer(*TWO).replace(b'"data":', b'"data":[{"index":0,"embedding":[8]}],"data":'),
        answer(item(0, "#0"), item(1, [7])),
        answer(*TWO, note="x" * 10_000),
        b'{"note":"' + b"x" * 10_000 + b'",' + answer(*TWO)[1:],
    ],
    ids=range(18),
)
def test_what_looks_like_an_embedding_is_not_taken_for_one(body: bytes) -> None:
    expected = [json.loads(body)["data"][n]["embedding"] for n in (0, 1)]
    assert [json.loads(e) for e in read_answer(body, 2).embeddings] == expected


@pytest.mark.parametrize("embedding", [[[1, 2], [3]], [{"a": [1]}], ["x]", 1], [], [None], ""])
def test_lists_of_other_things_are_handed_on(embedding: object) -> None:
    embeddings = read_answer(answer(item(0, embedding), item(1, [1])), 2).embeddings
    assert [json.loads(e) for e in embeddings] == [embedding, [1]]


MALFORMED = [
    b"",
    b"[]",
    b"{}",
    b"\xff",
    b"not json",
    answer(*TWO)[:-1],
    answer(*TWO) + b"}",
    b'{"error":{"message":"no","type":"x","code":500}}',
    answer(*TWO, error={"message": "no"}),
    answer(*TWO, error="no"),
    answer(),
    answer(TWO[0]),
    answer(*TWO, item(2, [1])),
    answer(item(0, [1]), item(0, [1])),
    answer(item(1, [1]), item(2, [1])),
    answer(item(-1, [1]), item(0, [1])),
    answer(item("0", [1]), item(1, [1])),
    answer(item(None, [1]), item(1, [1])),
    answer(item(0, None), item(1, [1])),
    answer(item(0, 5), item(1, [1])),
    answer(item(0, {}), item(1, [1])),
    answer({"index": 0}, item(1, [1])),
    answer({"embedding": [1]}, item(1, [1])),
    answer(*TWO, data=None),
    answer(*TWO, data={}),
    answer(*TWO, model=None),
    answer(*TWO, usage=None),
    answer(*TWO, usage={"prompt_tokens": 5}),
    answer(*TWO, usage={"prompt_tokens": -1, "total_tokens": 5}),
    answer(*TWO, usage={"prompt_tokens": "5", "total_tokens": 5}),
    answer(*TWO).replace(b"[0.5,-1e-07]", b"[0.5,-1e-07"),
    answer(*TWO).replace(b"[0.5,-1e-07]", b"[0.5,[-1e-07]"),
    answer(*TWO).replace(b"[0.5,-1e-07]", b"[0.5]]"),
    answer(*TWO).replace(b"[0.5,-1e-07]", b'["0.5]'),
    b'{"note":' + b"[" * 100_000 + b"]" * 100_000 + b"," + answer(*TWO)[1:],
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_anything_but_one_embedding_for_each_text_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedAnswer) as caught:
        read_answer(body, 2)
    assert (caught.value.status, caught.value.code) == (502, "malformed_answer")


def test_a_callers_answer_is_openais() -> None:
    assert json.loads(write_answer('m"', [b"[1.50]", b'"AACAPw=="'], 3, 4)) == {
        "object": "list",
        "model": 'm"',
        "data": [item(0, [1.5]), item(1, "AACAPw==")],
        "usage": {"prompt_tokens": 3, "total_tokens": 4},
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"id": None, "created": None}, {}),
        ({"id": "embd-1"}, {"id": 'own"'}),
        ({"created": 17}, {"created": 17}),
        ({"created": {"embedding": [9]}}, {"created": {"embedding": [9]}}),
        ({"id": "embd-1", "created": 17}, {"id": 'own"', "created": 17}),
    ],
)
def test_a_caller_gets_an_id_and_a_time_where_the_engine_gives_them(
    fields: dict[str, object], expected: dict[str, object]
) -> None:
    read = read_answer(answer(*TWO, **fields), 2)
    written = json.loads(write_answer("m", read.embeddings, 1, 1, read.extras('own"')))
    assert {k: v for k, v in written.items() if k in ("id", "created")} == expected


floats = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20)


@given(floats)
def test_the_length_is_told_from_a_list_and_from_base64(vector: list[float]) -> None:
    encoded = json.dumps(base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode())
    assert dimension(json.dumps(vector).encode()) == len(vector)
    assert dimension(encoded.encode()) == len(vector)
    assert dimension(encoded.replace("/", "\\/").encode()) == len(vector)
    assert dimension(encoded.replace("+", "\\u002b").encode()) == len(vector)


embeddings = floats | st.sampled_from(["AACAPw==", "", "a]b", "#0", '#0"embedding":[1'])
keys = st.sampled_from(["embedding", 'x"embedding', "index", "note", "#0"])
values = st.recursive(
    st.sampled_from(["embedding", "#0", '"embedding":[', "]"]) | st.none() | st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")])


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Valid answers that are full of what looks like an embedding."""
    vectors = draw(st.lists(embeddings, min_size=1, max_size=4))
    data = [
        draw(st.dictionaries(keys, values, max_size=2)) | item(index, vector)
        for index, vector in enumerate(vectors)
    ]
    fields = draw(st.dictionaries(keys, values, max_size=2))
    fields |= {"data": draw(st.permutations(data)), "model": draw(keys), "usage": USAGE}
    return json.dumps(fields, separators=draw(layouts)).encode()


@given(answers())
def test_embeddings_are_cut_as_a_json_parser_reads_them(body: bytes) -> None:
    by_index = {entry["index"]: entry["embedding"] for entry in json.loads(body)["data"]}
    cut = read_answer(body, len(by_index)).embeddings
    assert {n: json.loads(embedding) for n, embedding in enumerate(cut)} == by_index
    assert all(embedding in body for embedding in cut)


def read_decoding_everything(body: bytes, texts: int) -> EmbeddingAnswer | None:
    """Nothing is cut out of a body that holds what stands in for a cut."""
    return read_or_refuse(b'{"note":"#",' + body[1:], texts)


def read_or_refuse(body: bytes, texts: int) -> EmbeddingAnswer | None:
    try:
        return read_answer(body, texts)
    except MalformedAnswer:
        return None


snippets = st.sampled_from(
    [
        b'"',
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b"\\",
        b"1",
        b'"embedding":[',
        b'"embedding":',
        b"]}",
    ]
)
edits = st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 3), snippets | st.just(b"")))


@given(answers(), edits.filter(any))
def test_a_damaged_answer_is_refused_or_cut_as_if_all_of_it_were_decoded(
    body: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    texts = len(json.loads(body)["data"])
    for where, removed, inserted in changes:
        at = 1 + where % len(body)
        body = body[:at] + inserted + body[at + removed :]
    cut = read_or_refuse(body, texts)
    decoded = read_decoding_everything(body, texts)
    if decoded is not None or cut is None:
        assert cut == decoded
        return
    # The damage is in the numbers of one list: they are not read, but they stay in it.
    for embedding in cut.embeddings:
        assert embedding[:1] == b'"' or not set(embedding[1:-1]) & set(b'"[]')
