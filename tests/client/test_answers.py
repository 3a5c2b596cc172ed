"""What a server answers is read as it is meant, and what it is not is said."""

import base64
import json
import struct
from typing import Any

import pytest

import sagepool
from sagepool.answers import Answer, WireEmbeddings, WireModels, error_of, read
from sagepool.calls import chat_call, embed_call, generate_call


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, told, raw, "http://server/v1/x")


def chat(message: Any, **choice: Any) -> Answer:
    return answer({"choices": [{"message": message, **choice}]})


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, sagepool.BadRequestError),
            (401, sagepool.AuthenticationError),
            (403, sagepool.PermissionDeniedError),
            (404, sagepool.NotFoundError),
            (408, sagepool.APITimeoutError),
            (413, sagepool.BadRequestError),
            (422, sagepool.BadRequestError),
            (424, sagepool.BadRequestError),
            (429, sagepool.RateLimitError),
            (500, sagepool.ServerError),
            (501, sagepool.ServerError),
            (502, sagepool.UnavailableError),
            (503, sagepool.UnavailableError),
            (504, sagepool.APITimeoutError),
            (529, sagepool.UnavailableError),
            (204, sagepool.UnexpectedAnswerError),
            (302, sagepool.UnexpectedAnswerError),
        ],
    )
    def test_a_status_has_its_class(self, status: int, kind: type[Exception]) -> None:
        error = error_of(answer({}, status), "id-1")
        assert type(error) is kind
        assert error.status == status
        assert isinstance(error, sagepool.SagepoolError)

    def test_openais_form_is_told_whole(self) -> None:
        body = {"error": {"message": "m", "type": "t", "param": "temperature", "code": "c"}}
        error = error_of(answer(body, 400, x_request_id="theirs"), "ours")
        assert (str(error), error.type, error.param, error.code, error.request_id) == (
            "m",
            "t",
            "temperature",
            "c",
            "theirs",
        )

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({"object": "error", "message": "of old vLLM", "code": 400}, "of old vLLM"),
            ({"error": "of TEI", "error_type": "Validation"}, "of TEI"),
            ({"detail": "of FastAPI"}, "of FastAPI"),
            ({"detail": [{"loc": ["body"]}]}, '[{"loc": ["body"]}]'),
            (b"plain\n words", "plain words"),
        ],
    )
    def test_other_servers_forms_are_told_too(self, body: Any, message: str) -> None:
        assert str(error_of(answer(body, 400), "id")) == message

    @pytest.mark.parametrize("body", [b"", b"<html>nginx</html>", {}, [], {"error": None}])
    def test_a_body_without_words_is_told_by_address_and_status(self, body: Any) -> None:
        error = error_of(answer(body, 500), "id-7")
        assert error.request_id == "id-7"
        assert str(error) == "http://server/v1/x answers with 500"

    def test_bytes_that_are_no_text_do_no_harm(self) -> None:
        assert str(error_of(answer(b"a\xff", 500), "id")) == "a\ufffd"

    def test_a_redirection_says_whereto(self) -> None:
        error = error_of(answer(b"", 301, location="https://elsewhere/"), "id")
        assert "points to https://elsewhere/" in str(error)

    def test_the_pause_that_the_server_wants_is_told(self) -> None:
        assert error_of(answer({}, 429, retry_after_ms="250"), "id").retry_after == 0.25
        assert error_of(answer({}, 503, retry_after="7"), "id").retry_after == 7
        assert error_of(answer({}, 429), "id").retry_after is None

    def test_the_builtin_classes_catch_them_too(self) -> None:
        assert isinstance(error_of(answer({}, 504), "id"), TimeoutError)
        assert issubclass(sagepool.APIConnectionError, ConnectionError)
        assert issubclass(sagepool.ConfigurationError, ValueError)


class TestTexts:
    def test_a_chats_text_and_all_about_it(self) -> None:
        call = chat_call("hi", False, {})
        got = call.read(
            answer(
                {
                    "id": "1",
                    "model": "m",
                    "choices": [{"message": {"content": "yes"}, "finish_reason": "length"}],
                    "usage": {"prompt_tokens": 2, "completion_tokens": 3},
                    "service_tier": None,
                }
            )
        )
        assert (got.content, got.id, got.model) == ("yes", "1", "m")
        assert got.usage == sagepool.Usage(2, 3, 5)
        assert got.metadata["finish_reason"] == "length"

    def test_tool_calls_come_with_an_empty_text(self) -> None:
        calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        got = chat_call("hi", False, {}).read(chat({"content": None, "tool_calls": calls}))
        assert got.content == ""
        assert got.metadata["tool_calls"] == calls

    def test_a_completions_text(self) -> None:
        got = generate_call("a", False, {}).read(answer({"choices": [{"text": "b"}]}))
        assert got.content == "b"
        assert got.usage == sagepool.Usage()

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"[]",
            b'{"choices": []}',
            b'{"choices": [{}]}',
            b'{"choices": 3}',
            b'{"choices": [{"message": {"content": 5}}]}',
            b'{"choices": [{"message": null}]}',
        ],
    )
    def test_what_is_no_answer_is_said_with_the_address(self, body: bytes) -> None:
        with pytest.raises(sagepool.UnexpectedAnswerError, match="http://server/v1/x answers, but"):
            chat_call("hi", False, {}).read(answer(body))


class TestEmbeddings:
    def read(self, *items: Any, texts: int) -> list[list[float]]:
        vectors: list[list[float]] = (
            embed_call(["t"] * texts, {}).read(answer({"data": list(items)})).content
        )
        return vectors

    def test_vectors_come_in_the_order_of_the_texts(self) -> None:
        items = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
        assert self.read(*items, texts=2) == [[1.0], [2.0]]

    def test_base64_becomes_numbers(self) -> None:
        told = base64.b64encode(struct.pack("<3f", 0.5, -1.0, 2.0)).decode()
        assert self.read({"index": 0, "embedding": told}, texts=1) == [[0.5, -1.0, 2.0]]

    @pytest.mark.parametrize("told", ["%%%", "AAA=", "AAAA"])
    def test_what_is_not_base64_of_floats_is_said(self, told: str) -> None:
        with pytest.raises(sagepool.UnexpectedAnswerError, match="an embedding cannot be read"):
            self.read({"index": 0, "embedding": told}, texts=1)

    def test_a_number_of_vectors_that_does_not_fit_is_said(self) -> None:
        with pytest.raises(sagepool.UnexpectedAnswerError, match="1 embeddings for 2 texts"):
            self.read({"index": 0, "embedding": [1.0]}, texts=2)

    def test_fields_that_are_not_known_are_passed_over(self) -> None:
        body = {"data": [{"index": 0, "embedding": [1], "object": "embedding"}], "new": 1}
        assert read(WireEmbeddings, answer(body)).vectors() == [[1.0]]


def test_a_list_of_models_tells_roles_where_the_server_does() -> None:
    body = {"data": [{"id": "a"}, {"id": "b", "role": "embedding", "ready": False}]}
    first, second = read(WireModels, answer(body)).data
    assert (first.role, first.ready) == (None, True)
    assert (second.role, second.ready) == ("embedding", False)
