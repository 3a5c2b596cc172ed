"""What is read from a request, and which rule refuses it first."""

import json
from contextlib import suppress
from math import inf

import pytest
from hypothesis import given
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
    refusal,
)
from sagepool_router.errors import InvalidRequest
from sagepool_router.facts import ENDPOINTS, MAX_DEADLINE_MS, classify
from sagepool_router.request_head import RequestHead

CHAT_RULES = [
    ({"messages": MESSAGES}, "missing_model"),
    ({"model": None, "messages": MESSAGES}, "missing_model"),
    ({"model": "", "messages": MESSAGES}, "missing_model"),
    ({"model": 7, "messages": MESSAGES}, "missing_model"),
    ({"model": "m"}, "missing_messages"),
    ({"model": "m", "messages": None}, "missing_messages"),
    ({"model": "m", "messages": []}, "missing_messages"),
    ({"model": "m", "messages": MESSAGES, "max_tokens": 0}, "invalid_max_tokens"),
    ({"model": "m", "messages": MESSAGES, "max_tokens": -1}, "invalid_max_tokens"),
    ({"model": "m", "messages": MESSAGES, "max_tokens": "9"}, "invalid_max_tokens"),
    ({"model": "m", "messages": MESSAGES, "max_tokens": True}, "invalid_max_tokens"),
    ({"model": "m", "messages": MESSAGES, "max_tokens": 0.5}, "invalid_max_tokens"),
    ({"model": "m", "messages": MESSAGES, "max_completion_tokens": 0}, "invalid_max_tokens"),
    ({"model": "m", "messages": MESSAGES, "temperature": -0.1}, "invalid_temperature"),
    ({"model": "m", "messages": MESSAGES, "temperature": 2.1}, "invalid_temperature"),
    ({"model": "m", "messages": MESSAGES, "temperature": "hot"}, "invalid_temperature"),
    ({"model": "m", "messages": MESSAGES, "top_p": 1.01}, "invalid_top_p"),
    ({"model": "m", "messages": MESSAGES, "top_p": -1}, "invalid_top_p"),
    ({"model": "m", "messages": MESSAGES, "top_p": []}, "invalid_top_p"),
]
EMBEDDING_RULES = [
    ({"input": "x"}, "missing_model"),
    ({"model": "m"}, "missing_embedding_texts"),
    ({"model": "m", "input": None}, "missing_embedding_texts"),
    ({"model": "m", "input": {}}, "missing_embedding_texts"),
    ({"model": "m", "input": []}, "empty_embedding_texts"),
    ({"model": "m", "input": ""}, "blank_embedding_text"),
    ({"model": "m", "input": " \n\t"}, "blank_embedding_text"),
    ({"model": "m", "input": ["a", ""]}, "blank_embedding_text"),
    ({"model": "m", "input": ["a", "  "]}, "blank_embedding_text"),
    ({"model": "m", "input": [[1], []]}, "blank_embedding_text"),
]
COMPLETION_RULES = [
    ({"prompt": "x"}, "missing_model"),
    ({"model": "m"}, "missing_prompt"),
    ({"model": "m", "prompt": None}, "missing_prompt"),
    ({"model": "m", "prompt": ""}, "missing_prompt"),
    ({"model": "m", "prompt": []}, "missing_prompt"),
    ({"model": "m", "prompt": "x", "max_tokens": 0}, "invalid_max_tokens"),
]
RESPONSE_RULES = [
    ({"input": "x"}, "missing_model"),
    ({"model": "m"}, "missing_prompt"),
    ({"model": "m", "input": None}, "missing_prompt"),
    ({"model": "m", "input": []}, "missing_prompt"),
    ({"model": "m", "input": "x", "max_output_tokens": 0}, "invalid_max_tokens"),
    ({"model": "m", "input": "x", "temperature": 3}, "invalid_temperature"),
    ({"model": "m", "input": "x", "top_p": 2}, "invalid_top_p"),
]
MESSAGE_RULES = [
    ({"messages": MESSAGES}, "missing_model"),
    ({"model": "m", "max_tokens": 5}, "missing_messages"),
    ({"model": "m", "messages": MESSAGES, "max_tokens": 0}, "invalid_max_tokens"),
    ({"model": "m", "messages": MESSAGES, "temperature": 3}, "invalid_temperature"),
    ({"model": "m", "messages": MESSAGES, "top_p": 2}, "invalid_top_p"),
]
RULES = (
    [(CHAT, *rule) for rule in CHAT_RULES]
    + [(EMBEDDING, *rule) for rule in EMBEDDING_RULES]
    + [(COMPLETION, *rule) for rule in COMPLETION_RULES]
    + [(RESPONSE, *rule) for rule in RESPONSE_RULES]
    + [(MESSAGE, *rule) for rule in MESSAGE_RULES]
    + [
        (path, {"query": "x", "input": "x", "prompt": "x"}, "missing_model")
        for path in ("/v1/rerank", "/score", "/v1/classify", "/classify", "/pooling", "/tokenize")
    ]
)


@pytest.mark.parametrize(("path", "body", "code"), RULES)
def test_a_rule_that_is_broken_is_named(path: str, body: object, code: str) -> None:
    assert refusal(path, body).code == code


def test_the_message_names_the_field_and_the_rule() -> None:
    error = refusal(CHAT, {"model": "m", "messages": MESSAGES, "temperature": 3})
    assert error.message == "temperature must be a number from 0 to 2"


LATER_RULES: dict[str, list[tuple[str, object, str]]] = {
    CHAT: [("messages", MESSAGES, "missing_messages")],
    COMPLETION: [("prompt", "x", "missing_prompt")],
    RESPONSE: [("input", "x", "missing_prompt")],
    MESSAGE: [("messages", MESSAGES, "missing_messages")],
    EMBEDDING: [
        ("input", [], "missing_embedding_texts"),
        ("input", [" "], "empty_embedding_texts"),
        ("input", ["x"], "blank_embedding_text"),
    ],
}


@pytest.mark.parametrize("path", sorted(LATER_RULES))
def test_the_first_of_many_broken_rules_is_reported(path: str) -> None:
    body: dict[str, object] = {"max_tokens": 0, "temperature": 9, "top_p": 9}
    headers = {
        "x_sagepool_priority": b"soon",
        "x_sagepool_deadline_ms": b"never",
        "x_sagepool_request_type": b"other",
    }
    repairs: list[tuple[str, object, str]] = [
        ("model", "m", "missing_model"),
        *LATER_RULES[path],
        ("max_tokens", 1, "invalid_max_tokens"),
        ("temperature", 1, "invalid_temperature"),
        ("top_p", 1, "invalid_top_p"),
    ]
    if path == EMBEDDING:
        repairs = repairs[:-3]
    for field, value, code in repairs:
        assert refusal(path, body, **headers).code == code
        body[field] = value
    for name, good, code in (
        ("x_sagepool_priority", b"high", "invalid_priority"),
        ("x_sagepool_deadline_ms", b"5", "invalid_deadline"),
    ):
        assert refusal(path, body, **headers).code == code
        headers[name] = good
    assert refusal(path, body, **headers).code == "conflicting_request_type"
    del headers["x_sagepool_request_type"]
    assert read(path, body, **headers).priority == 1


@pytest.mark.parametrize("wrong", ["text", 7, {}])
def test_a_missing_model_is_reported_before_a_field_of_the_wrong_type(wrong: object) -> None:
    assert refusal(CHAT, {"messages": wrong}).code == "missing_model"
    assert refusal(CHAT, {"messages": wrong, "model": 7}).code == "missing_model"
    assert refusal(CHAT, {"messages": wrong, "model": "m"}).code == "missing_messages"


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"temperature": 0},
        {"temperature": 2},
        {"top_p": 0},
        {"top_p": 1},
        {"max_tokens": 1.0, "max_completion_tokens": 2**70},
        {"max_tokens": 1, "temperature": None, "top_p": None},
        {"tools": [{"x": {"model": 3}}], "stream": True, "nobody": {"knows": ["this"]}},
    ],
)
def test_valid_chats_pass(extra: dict[str, object]) -> None:
    assert read(CHAT, {"model": "m", "messages": MESSAGES, **extra}).model == "m"


@pytest.mark.parametrize(
    ("given_input", "texts"),
    [
        ("one", 1),
        (["one"], 1),
        (["one", "two", "three"], 3),
        ([1, 2, 3], 1),
        ([[1, 2], [3]], 2),
    ],
)
def test_texts_are_counted_and_token_ids_are_texts(given_input: object, texts: int) -> None:
    assert read(EMBEDDING, {"model": "m", "input": given_input}).texts == texts


def test_an_embedding_of_a_conversation_needs_no_input() -> None:
    assert read(EMBEDDING, {"model": "m", "messages": MESSAGES}).texts == 1


@pytest.mark.parametrize("prompt", ["x", ["x", "y"], [1, 2], [[1], [2]]])
def test_prompts_may_be_texts_or_token_ids(prompt: object) -> None:
    assert read(COMPLETION, {"model": "m", "prompt": prompt}).model == "m"


def test_a_prompt_may_be_given_as_embeddings() -> None:
    assert read(COMPLETION, {"model": "m", "prompt_embeds": "AAAA"}).model == "m"


def test_facts_of_a_chat() -> None:
    facts = read(CHAT, {"model": "m", "messages": MESSAGES, "stream": True, "max_tokens": 7})
    assert (facts.model, facts.kind, facts.request_type) == ("m", "chat", "llm_chat")
    assert (facts.stream, facts.max_tokens, facts.texts) == (True, 7, 0)
    assert (facts.priority, facts.deadline_s, facts.session) == (None, None, None)


@pytest.mark.parametrize(
    ("path", "limits", "expected"),
    [
        (CHAT, {}, None),
        (CHAT, {"max_tokens": 5}, 5),
        (CHAT, {"max_completion_tokens": 6}, 6),
        (CHAT, {"max_tokens": 5, "max_completion_tokens": 6}, 6),
        (CHAT, {"max_tokens": 5, "max_completion_tokens": None}, 5),
        (RESPONSE, {"max_output_tokens": 8}, 8),
        (MESSAGE, {"max_tokens": 9}, 9),
        (COMPLETION, {"max_tokens": 4.0}, 4),
    ],
)
def test_the_limit_of_the_answer(
    path: str, limits: dict[str, object], expected: int | None
) -> None:
    body = {"model": "m", "messages": MESSAGES, "prompt": "x", "input": "x", **limits}
    assert read(path, body).max_tokens == expected


@pytest.mark.parametrize("stream", [False, None, "true", 1])
def test_only_true_asks_for_a_stream(stream: object) -> None:
    body = {"model": "m", "messages": MESSAGES, "stream": stream}
    assert read(CHAT, body).stream is False


@pytest.mark.parametrize(
    ("header", "priority"),
    [(b"critical", 0), (b"High", 1), (b" normal ", 2), (b"3", 3), (b"background", 4)],
)
def test_priorities_have_names_and_numbers(header: bytes, priority: int) -> None:
    assert read("/tokenize", {"model": "m"}, x_sagepool_priority=header).priority == priority


@pytest.mark.parametrize("header", [b"", b"5", b"-1", b"urgent", b"\xff"])
def test_other_priorities_are_refused(header: bytes) -> None:
    error = refusal("/tokenize", {"model": "m"}, x_sagepool_priority=header)
    assert (error.code, error.param) == ("invalid_priority", "x-sagepool-priority")


def test_a_budget_is_an_amount() -> None:
    assert read("/tokenize", {"model": "m"}).budget == inf
    assert read("/tokenize", {"model": "m"}, x_sagepool_budget=b"0.0025").budget == 0.0025


@pytest.mark.parametrize("header", [b"", b"-1", b"inf", b"nan", b"1e3", b"1_0", b"cheap", b"1,5"])
def test_other_budgets_are_refused(header: bytes) -> None:
    error = refusal("/tokenize", {"model": "m"}, x_sagepool_budget=header)
    assert (error.code, error.param) == ("invalid_budget", "x-sagepool-budget")


def test_a_deadline_is_in_milliseconds() -> None:
    facts = read("/tokenize", {"model": "m"}, x_sagepool_deadline_ms=b"1500")
    assert facts.deadline_s == 1.5


@pytest.mark.parametrize(
    "header", [b"", b"0", b"-5", b"+5", b"1.5", b"1_0", b"9" * 5000, b"%d" % (MAX_DEADLINE_MS + 1)]
)
def test_other_deadlines_are_refused(header: bytes) -> None:
    error = refusal("/tokenize", {"model": "m"}, x_sagepool_deadline_ms=header)
    assert error.code == "invalid_deadline"


BODY = {"model": "m", "messages": MESSAGES, "prompt": "x", "input": "x"}
TYPES = [
    (CHAT, "llm_chat", {"llm_chat"}),
    (COMPLETION, "llm_generate", {"llm_generate"}),
    (RESPONSE, "llm_chat", {"llm_chat", "llm_generate"}),
    (MESSAGE, "llm_chat", {"llm_chat"}),
    (EMBEDDING, "embedding", {"embedding"}),
    ("/v1/rerank", "other", {"embedding"}),
    ("/score", "other", {"embedding"}),
    ("/classify", "other", {"embedding"}),
    ("/pooling", "other", {"embedding"}),
    ("/tokenize", "other", {"llm_chat", "llm_generate", "embedding"}),
]


@pytest.mark.parametrize(("path", "by_route", "accepted"), TYPES)
def test_a_named_type_wins_over_the_routes_unless_it_conflicts(
    path: str, by_route: str, accepted: set[str]
) -> None:
    assert read(path, BODY).request_type == by_route
    for named in ("llm_chat", "llm_generate", "embedding"):
        header = f" {named.upper()} ".encode()
        if named in accepted:
            assert read(path, BODY, x_sagepool_request_type=header).request_type == named
        else:
            error = refusal(path, BODY, x_sagepool_request_type=header)
            assert error.code == "conflicting_request_type"
            assert path in error.message


@pytest.mark.parametrize("named", [b"", b"chat", b"other", b"\xff"])
def test_an_unknown_type_is_refused_with_a_list_of_those_that_there_are(named: bytes) -> None:
    error = refusal(CHAT, BODY, x_sagepool_request_type=named)
    assert (error.code, error.param) == ("conflicting_request_type", "x-sagepool-request-type")
    assert "llm_chat, llm_generate, embedding" in error.message


@pytest.mark.parametrize(
    ("headers", "user", "session"),
    [
        ({}, "ann", "ann"),
        ({}, "", None),
        ({}, None, None),
        ({}, {"name": "ann"}, None),
        ({"x_session_id": b" s-1 "}, "ann", "s-1"),
        ({"x_session_id": b""}, "ann", "ann"),
        ({"x_session_id": b"\xff"}, None, "\xff"),
        ({"x_session_id": b"s" * 256}, None, "s" * 256),
    ],
)
@pytest.mark.parametrize("path", [CHAT, EMBEDDING, "/tokenize"])
def test_the_session_is_the_header_or_else_the_user(
    path: str, headers: dict[str, bytes], user: object, session: str | None
) -> None:
    assert read(path, {**BODY, "user": user}, **headers).session == session


def test_a_long_session_becomes_short_and_stays_itself() -> None:
    sessions = [
        read(CHAT, BODY, x_session_id=b"s" * 300).session,
        read(CHAT, {**BODY, "user": "s" * 300}).session,
        read(CHAT, BODY, x_session_id=b"s" * 300 + b"t").session,
    ]
    assert sessions[0] == sessions[1] != sessions[2]
    assert all(session and len(session) <= 256 for session in sessions)


def test_a_user_that_is_no_unicode_is_no_session() -> None:
    assert read(CHAT, b'{"model":"m","messages":[{}],"user":"\xff"}').session is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"null", "invalid_body"),
        (b"[1]", "invalid_body"),
        (b'{"model":"m"} {}', "invalid_json"),
        (b'{"model":"\\ud800"}', "invalid_json"),
        (b'{"model":"m","messages":"text",]', "invalid_json"),
        (b'{"model":"m","x":' + b"[" * 100_000, "invalid_json"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, code: str) -> None:
    assert refusal(CHAT, body).code == code


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b'{"model":"m","messages":"text"}', "missing_messages", "messages"),
        (b'{"model":"m","messages":{}}', "missing_messages", "messages"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(body: bytes, code: str, param: str) -> None:
    error = refusal(CHAT, body)
    assert (error.code, error.param) == (code, param)
    assert f"{param} has the wrong type" in error.message


def test_a_form_is_refused_where_json_is_needed() -> None:
    error = refusal(CHAT, BODY, content_type=FORM_TYPE)
    assert (error.code, error.param) == ("invalid_content_type", "content-type")


@pytest.mark.parametrize("content_type", [b"text/plain", b"", b"application/x-www-form-urlencoded"])
def test_any_other_content_type_passes_as_json(content_type: bytes) -> None:
    assert read(CHAT, BODY, content_type=content_type).model == "m"


def test_of_two_models_the_last_counts_as_it_does_at_the_engine() -> None:
    body = b'{"model":"first","messages":[{}],"model":"last"}'
    assert read(CHAT, body).model == "last"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
fields = st.sampled_from(
    ["model", "messages", "input", "prompt", "max_tokens", "temperature", "user", "tools", "system"]
)
json_routes = st.sampled_from(
    sorted(p for p, endpoint in ENDPOINTS.items() if not endpoint.is_form)
)


@given(json_routes, st.dictionaries(fields, json_values) | json_values)
def test_every_json_is_either_read_or_refused(path: bytes, body: object) -> None:
    payload = json.dumps(body, allow_nan=False).encode()
    with suppress(InvalidRequest):
        facts = classify(ENDPOINTS[path], payload, RequestHead(path))
        assert isinstance(body, dict)
        assert facts.model == body["model"]
        assert all(0 <= number < 1 << 32 for number in facts.fingerprints)
        assert facts.prompt_tokens >= 0


@given(json_routes, st.binary(max_size=60))
def test_every_sequence_of_bytes_is_either_read_or_refused(path: bytes, body: bytes) -> None:
    with suppress(InvalidRequest):
        classify(ENDPOINTS[path], body, RequestHead(path))


@given(
    st.text(alphabet=st.sampled_from("a\\ \t\n\f\x1c\x85\xa0\u1680\u2003\u3000\u3001")),
    st.booleans(),
)
def test_a_text_is_blank_as_python_sees_it(text: str, is_ascii: bool) -> None:
    """However it is escaped, alone or in a list."""
    for given_input in (text, ["x", text]):
        body = json.dumps({"model": "m", "input": given_input}, ensure_ascii=is_ascii).encode()
        if text.strip():
            assert read(EMBEDDING, body).texts >= 1
        else:
            assert refusal(EMBEDDING, body).code == "blank_embedding_text"


def test_a_form_has_the_same_headers() -> None:
    body = form(('"model"', b"whisper"), ('"stream"', b"True"))
    headers = {"content_type": FORM_TYPE, "x_session_id": b"s", "x_sagepool_priority": b"low"}
    facts = read(TRANSCRIPTION, body, **headers)
    assert (facts.model, facts.kind, facts.request_type) == ("whisper", "transcription", "other")
    assert (facts.stream, facts.session, facts.priority) == (True, "s", 3)
    for named, is_fit in ((b"llm_generate", True), (b"embedding", False), (b"llm_chat", False)):
        if is_fit:
            facts = read(TRANSCRIPTION, body, **headers, x_sagepool_request_type=named)
            assert facts.request_type == "llm_generate"
        else:
            error = refusal(TRANSCRIPTION, body, **headers, x_sagepool_request_type=named)
            assert error.code == "conflicting_request_type"
