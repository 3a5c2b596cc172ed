"""What is asked for is what is sent."""

from typing import Any

import pytest

import sagepool
from sagepool.calls import chat_call, embed_call, generate_call
from sagepool.endpoints import Endpoint, read_base_url
from sagepool.parameters import split


class TestBodies:
    def test_a_text_alone_is_what_the_user_says(self) -> None:
        assert chat_call("hi", False, {}).fields == {
            "messages": [{"role": "user", "content": "hi"}]
        }

    def test_messages_stay_as_they_are(self) -> None:
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        messages = [{"role": "user", "content": [picture]}, {"role": "tool", "tool_call_id": "1"}]
        assert chat_call(messages, False, {}).fields["messages"] == messages

    def test_zero_and_false_are_values(self) -> None:
        fields = chat_call("hi", False, {"temperature": 0, "logprobs": False, "seed": 0}).fields
        assert (fields["temperature"], fields["logprobs"], fields["seed"]) == (0, False, 0)

    def test_none_means_left_out(self) -> None:
        assert set(generate_call("a", False, {"temperature": None, "stop": None}).fields) == {
            "prompt"
        }

    def test_every_parameter_of_the_api_passes(self) -> None:
        given = {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": "auto",
            "response_format": {"type": "json_object"},
            "logit_bias": {"5": -100},
            "top_logprobs": 3,
        }
        fields = chat_call("hi", False, given).fields
        assert {name: fields[name] for name in given} == given

    def test_so_do_an_engines_own(self) -> None:
        given = {"top_k": 5, "extra_body": {"min_p": 0.1, "top_k": 1, "nothing": None}}
        assert chat_call("hi", False, given).fields == {
            "messages": [{"role": "user", "content": "hi"}],
            "min_p": 0.1,
            "nothing": None,
            "top_k": 5,
        }

    def test_a_stream_asks_for_its_usage(self) -> None:
        fields = chat_call("hi", True, {}).fields
        assert (fields["stream"], fields["stream_options"]) == (True, {"include_usage": True})

    def test_unless_it_is_told_otherwise(self) -> None:
        assert "stream_options" not in chat_call("hi", False, {}).fields
        given = {"stream_options": {"include_usage": False}}
        assert generate_call("a", True, given).fields["stream_options"] == given["stream_options"]

    def test_one_text_is_a_list_of_one(self) -> None:
        assert embed_call("a", {"dimensions": 8}).fields == {"input": ["a"], "dimensions": 8}

    def test_a_stream_of_several_choices_is_refused(self) -> None:
        with pytest.raises(sagepool.ConfigurationError, match="leave n out"):
            chat_call("hi", True, {"n": 2})

    @pytest.mark.parametrize(
        ("make", "param", "code"),
        [
            (lambda: chat_call([], False, {}), "messages", "missing_messages"),
            (lambda: embed_call([], {}), "texts", "empty_embedding_texts"),
        ],
    )
    def test_nothing_is_not_sent(self, make: Any, param: str, code: str) -> None:
        with pytest.raises(sagepool.BadRequestError) as told:
            make()
        assert (told.value.param, told.value.code, told.value.status) == (param, code, None)

    @pytest.mark.parametrize("given", [None, 5, {"role": "user", "content": "hi"}, b"hi"])
    def test_what_is_no_list_is_refused(self, given: Any) -> None:
        says = f"must be a list or a text, not {type(given).__name__}"
        with pytest.raises(sagepool.ConfigurationError, match=f"messages {says}"):
            chat_call(given, False, {})
        with pytest.raises(sagepool.ConfigurationError, match=f"texts {says}"):
            embed_call(given, {})


class TestOptions:
    def test_what_the_router_schedules_by_goes_into_headers(self) -> None:
        given = {"priority": "high", "deadline_ms": 500, "session": "s-1", "top_p": 1}
        fields, headers, timeout = split({**given, "extra_headers": {"x-mine": "1"}, "timeout": 3})
        assert fields == {"top_p": 1}
        assert headers == {
            "x-sagepool-priority": "high",
            "x-sagepool-deadline-ms": "500",
            "x-session-id": "s-1",
            "x-mine": "1",
        }
        assert timeout == 3

    @pytest.mark.parametrize("timeout", [0, -1, "5", True, float("nan"), float("inf"), [5]])
    def test_a_timeout_is_a_positive_number(self, timeout: Any) -> None:
        with pytest.raises(sagepool.ConfigurationError, match="timeout must be a positive number"):
            split({"timeout": timeout})

    @pytest.mark.parametrize(
        "given",
        [
            {"extra_headers": {"x-a": "1\r\nx-b: 2"}},
            {"extra_headers": {"x-a\n": "1"}},
            {"extra_headers": {"x-a": 1}},
            {"session": "a\nb"},
            {"session": "ü"},
        ],
    )
    def test_a_header_cannot_smuggle_another(self, given: Any) -> None:
        with pytest.raises(sagepool.ConfigurationError, match="must be printable ASCII"):
            split(given)

    @pytest.mark.parametrize("name", ["extra_body", "extra_headers"])
    def test_extras_are_mappings(self, name: str) -> None:
        with pytest.raises(sagepool.ConfigurationError, match=f"{name} must be a mapping"):
            split({name: "x"})


class TestAddresses:
    @pytest.mark.parametrize("given", [None, 5, b"http://a"])
    def test_what_is_no_text_is_refused(self, given: Any) -> None:
        with pytest.raises(sagepool.ConfigurationError, match="base_url must be an address, not"):
            read_base_url(given, "base_url")

    @pytest.mark.parametrize(
        ("given", "read"),
        [
            ("http://a", "http://a/v1"),
            ("http://a/", "http://a/v1"),
            ("http://a:8000/v1", "http://a:8000/v1"),
            (" http://a:8000/v1/ ", "http://a:8000/v1"),
            ("https://a/compatible-mode/v1", "https://a/compatible-mode/v1"),
            ("http://[::1]:8000", "http://[::1]:8000/v1"),
        ],
    )
    def test_v1_and_the_slash_may_lack(self, given: str, read: str) -> None:
        assert read_base_url(given, "base_url") == read

    @pytest.mark.parametrize(
        "given",
        [
            "",
            "a:8000",
            "ftp://a",
            "http://",
            "http://a:x",
            "http://a:99999",
            "http://a?x=1",
            "http://user:secret@a",
            "http://[::1",
        ],
    )
    def test_what_is_no_address_is_said_with_its_name(self, given: str) -> None:
        with pytest.raises(sagepool.ConfigurationError, match="SAGE_CHAT_BASE_URL"):
            read_base_url(given, "SAGE_CHAT_BASE_URL")

    @pytest.mark.parametrize(
        ("endpoint", "uses_proxy"),
        [
            (Endpoint("http://127.0.0.1:8000/v1"), False),
            (Endpoint("http://127.8.8.8/v1"), False),
            (Endpoint("http://[::1]:8000/v1"), False),
            (Endpoint("http://localhost:8000/v1"), False),
            (Endpoint("http://rag-router/v1", is_inside=True), False),
            (Endpoint("http://10.0.0.1/v1"), True),
            (Endpoint("https://api.example.com/v1"), True),
        ],
    )
    def test_a_proxy_is_for_the_world_outside(self, endpoint: Endpoint, uses_proxy: bool) -> None:
        assert endpoint.uses_proxy is uses_proxy

    def test_a_key_is_not_printed(self) -> None:
        assert "secret" not in repr(Endpoint("http://a/v1", "secret"))
