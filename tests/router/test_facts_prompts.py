"""How large a prompt is and whether two begin alike, told without decoding it."""

import json
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from router_requests import (
    CHAT,
    COMPLETION,
    EMBEDDING,
    FORM_TYPE,
    MESSAGE,
    MESSAGES,
    RESPONSE,
    TRANSCRIPTION,
    form,
    read,
)
from sagepool_router.fingerprint import MAX_PREFIX_BYTES


def tokens(path: str, **fields: object) -> int:
    return read(
        path, json.dumps({"model": "m", **fields}, separators=(",", ":")).encode()
    ).prompt_tokens


def said(role: str, text: object) -> dict[str, object]:
    return {"role": role, "content": text}


def test_a_text_is_a_quarter_of_its_bytes() -> None:
    assert tokens(COMPLETION, prompt="abcd" * 10) == 10
    assert tokens(COMPLETION, prompt="a") == 1
    assert tokens(EMBEDDING, input="abcd" * 10) == 10
    assert tokens(EMBEDDING, input=["abcd" * 10, "ab", "abcd"]) == 11
    assert tokens(EMBEDDING, input=["a"] * 9) == 9
    assert tokens(RESPONSE, input="abcd" * 10, instructions="x" * 38) == 20


def test_a_message_has_four_tokens_more() -> None:
    assert tokens(CHAT, messages=[said("user", "abcd" * 10)]) == 14
    assert tokens(CHAT, messages=[said("user", "abcd")] * 10) == 50
    assert tokens(MESSAGE, messages=[said("user", "abcd" * 10)], system="x" * 38) == 24
    assert tokens(EMBEDDING, messages=[said("user", "abcd" * 10)]) == 14
    assert tokens(CHAT, messages=[{}]) == 1


def test_tools_are_part_of_the_prompt() -> None:
    tools = [{"type": "function", "function": {"name": "x" * 400}}]
    for path in (CHAT, MESSAGE):
        more = tokens(path, messages=MESSAGES, tools=tools) - tokens(path, messages=MESSAGES)
        assert 100 < more < 120


@given(st.lists(st.lists(st.integers(0, 2**31), min_size=1), min_size=1), st.booleans())
def test_token_ids_are_counted_exactly(ids: list[list[int]], is_spaced: bool) -> None:
    separators = (" , ", ":") if is_spaced else (",", ":")
    for path, field in ((COMPLETION, "prompt"), (EMBEDDING, "input")):
        for given_ids, count in ((ids, sum(map(len, ids))), (ids[0], len(ids[0]))):
            body = json.dumps({"model": "m", field: given_ids}, separators=separators).encode()
            assert read(path, body).prompt_tokens == count


def test_an_image_is_not_counted_by_its_bytes() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    parts = [{"type": "text", "text": "abcd" * 100}, image, image]
    estimate = tokens(CHAT, messages=[said("system", "abcd" * 10), said("user", parts)])
    assert estimate == pytest.approx(100 + 10 + 8 + 2 * 1024, abs=8)


@pytest.mark.parametrize("content", [[1], ["x" * 9000], [{"text": 5}] * 2000, [[]] * 5000])
def test_odd_parts_are_the_engines_business(content: list[object]) -> None:
    assert tokens(CHAT, messages=[said("user", content)]) > 0


def test_other_bodies_are_measured_as_a_whole() -> None:
    body = json.dumps({"model": "m", "query": "x" * 100, "documents": ["y" * 300]}).encode()
    assert read("/v1/rerank", body).prompt_tokens == len(body) // 4
    sound = form(('"model"', b"m"), ('"file"; filename="a"', b"s" * 51_200))
    assert 100 <= read(TRANSCRIPTION, sound, content_type=FORM_TYPE).prompt_tokens <= 101


def test_a_large_prompt_is_not_copied_into_strings() -> None:
    body = json.dumps({"model": "m", "messages": [said("user", 'a "b" \n' * 100_000)]}).encode()
    read(CHAT, body)
    tracemalloc.start()
    try:
        assert read(CHAT, body).fingerprints
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


# Fingerprints.


def fingerprint(path: str = CHAT, **fields: object) -> int:
    """Of all that counts; 0 without a prompt."""
    return [0, *read(path, {"model": "m", **fields}).fingerprints][-1]


texts = st.text(max_size=20)
roles = st.sampled_from(["system", "developer", "assistant", "tool"])
contents = texts | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}))
leads = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["m", "m-adapter"]),
        "tools": st.lists(st.fixed_dictionaries({"name": texts}), max_size=1),
        "messages": st.builds(
            lambda before, user: [*before, said("user", user)],
            st.lists(st.builds(said, roles, contents), max_size=2),
            contents,
        ),
    }
)
turns = st.lists(st.builds(said, roles | st.just("user"), texts), max_size=3)


@given(leads, turns, turns)
def test_what_follows_the_first_user_text_does_not_count(
    lead: dict[str, list[object]], one: list[object], other: list[object]
) -> None:
    bodies = [{**lead, "messages": [*lead["messages"], *rest]} for rest in (one, other)]
    one_found, other_found = (read(CHAT, body).fingerprints for body in bodies)
    assert one_found == other_found


def _written(lead: dict[str, object]) -> str:
    """What counts; members of a body have no order."""
    return json.dumps([lead["model"], lead["tools"], lead["messages"]])


@given(leads, leads)
def test_equal_beginnings_and_only_they_have_equal_fingerprints(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assume(max(len(json.dumps(body)) for body in (one, other)) < MAX_PREFIX_BYTES)
    found = [
        read(CHAT, {**body, "temperature": t}).fingerprints for body, t in ((one, 0), (other, 1))
    ]
    assert (found[0] == found[1]) == (_written(one) == _written(other))


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (COMPLETION, {"prompt": "abc"}),
        (COMPLETION, {"prompt": [1, 2, 3]}),
        (RESPONSE, {"input": "abc"}),
        (RESPONSE, {"input": MESSAGES}),
        (RESPONSE, {"input": MESSAGES, "instructions": "be brief"}),
        (MESSAGE, {"messages": MESSAGES, "system": "be brief"}),
        (MESSAGE, {"messages": MESSAGES, "tools": [{"name": "x"}]}),
    ],
)
def test_every_llm_route_has_fingerprints(path: str, fields: dict[str, object]) -> None:
    found = fingerprint(path, **fields)
    assert found == fingerprint(path, **fields, temperature=1) != 0
    assert found != fingerprint(path, **fields, model="other")
    for field, value in fields.items():
        changed = json.loads(json.dumps(value).replace("abc", "abd").replace("hello", "help"))
        if changed != value:
            assert found != fingerprint(path, **{**fields, field: changed})
    for field in set(fields) - {"prompt", "input", "messages"}:
        assert found != fingerprint(path, **{k: v for k, v in fields.items() if k != field})


def test_a_conversation_keeps_its_fingerprint_from_turn_to_turn() -> None:
    turns = [said("user", "hello"), said("assistant", "hi"), said("user", "bye")]
    assert fingerprint(messages=turns[:1]) == fingerprint(messages=turns)
    assert fingerprint(RESPONSE, input=turns[:1]) == fingerprint(RESPONSE, input=turns)
    assert fingerprint(MESSAGE, messages=turns[:1]) == fingerprint(MESSAGE, messages=turns)


@pytest.mark.parametrize("where", ["tools", "system", "user"])
def test_only_the_first_bytes_count(where: str) -> None:
    def of(text: str) -> int:
        system, user = (text if where == role else "short" for role in ("system", "user"))
        tools = [{"name": text if where == "tools" else "short"}]
        return fingerprint(tools=tools, messages=[said("system", system), said("user", user)])

    long = "x" * MAX_PREFIX_BYTES
    assert of(long + "a") == of(long + "b")
    assert of("a" + long) != of("b" + long)


@pytest.mark.parametrize(
    ("shared", "common"), [(10, 0), (300, 1), (600, 2), (1100, 3), (2100, 4), (4200, 5)]
)
def test_prompts_share_the_numbers_of_the_beginnings_that_they_share(
    shared: int, common: int
) -> None:
    one, other = (
        read(
            CHAT,
            {
                "model": "m",
                "messages": [said("system", "s" * shared), said("user", question * 400)],
            },
        ).fingerprints
        for question in ("one more thing ", "another thing ")
    )
    assert len(one) == len(other) == 5
    assert (
        [a == b for a, b in zip(one, other, strict=True)].index(False) == common
        if (common < 5)
        else one == other
    )


def test_without_a_prompt_there_is_none() -> None:
    assert fingerprint(EMBEDDING, input="x") == 0
    assert fingerprint("/tokenize", prompt="x") == 0
    assert fingerprint(COMPLETION, prompt_embeds="AAAA") == 0
    sound = form(('"model"', b"m"))
    assert read(TRANSCRIPTION, sound, content_type=FORM_TYPE).fingerprints == []


def test_routers_agree() -> None:
    program = (
        "from sagepool_router.facts import ENDPOINTS, classify\n"
        "from sagepool_router.request_head import RequestHead\n"
        'body = b\'{"model":"m","messages":[{"role":"user","content":"x"}]}\'\n'
        "print(classify(ENDPOINTS[b'/v1/chat/completions'], body, RequestHead(b'/')).fingerprints)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
