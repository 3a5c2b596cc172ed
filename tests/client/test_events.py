"""A stream's bytes, however they are cut, become the same texts and one answer."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_server import delta, events
from sagepool.events import EventDecoder, EventError, TextReader
from sagepool.results import RequestType, Usage


def read(raw: bytes, kind: RequestType = "llm_chat") -> tuple[list[str], TextReader]:
    reader = TextReader(kind)
    texts = reader.feed(raw)
    reader.close()
    return texts, reader


class TestDecoding:
    @given(
        lines=st.lists(st.sampled_from(["data: a", "data:b", "data: c c", "", ": ping", "id: 1"])),
        ending=st.sampled_from(["\n", "\r\n", "\r"]),
        cuts=st.lists(st.integers(0, 60), max_size=8),
    )
    def test_cuts_do_not_matter(self, lines: list[str], ending: str, cuts: list[int]) -> None:
        raw = "".join(line + ending for line in [*lines, "", ""]).encode()
        whole = EventDecoder().feed(raw)
        places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
        decoder = EventDecoder()
        pieces = [decoder.feed(raw[a:b]) for a, b in pairwise(places)]
        assert [data for piece in pieces for data in piece] == whole

    def test_lines_of_one_event_belong_together(self) -> None:
        assert EventDecoder().feed(b"data: a\ndata: b\n\n") == ["a\nb"]

    def test_comments_and_other_fields_are_passed_over(self) -> None:
        assert EventDecoder().feed(b": ping\n\nevent: x\nretry: 3\ndata: a\n\n") == ["a"]

    @pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
    def test_no_other_character_ends_a_line(self, character: str) -> None:
        texts, _ = read(b"".join(events(delta(f"a{character}b"), delta(finish_reason="stop"))))
        assert texts == [f"a{character}b"]

    def test_characters_may_be_cut_in_the_middle(self) -> None:
        raw = b"".join(events(delta("äöü漢字🙂")))
        reader = TextReader("llm_chat")
        texts = [text for byte in raw for text in reader.feed(bytes([byte]))]
        assert texts == ["äöü漢字🙂"]


class TestAnswers:
    def test_a_chat(self) -> None:
        usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
        pieces = [delta(role="assistant", text=""), delta("he"), delta("llo")]
        texts, reader = read(b"".join(events(*pieces, delta(finish_reason="stop"), usage)))
        got = reader.reading()
        assert texts == ["he", "llo"]
        assert (got.content, got.id, got.model, got.usage) == (
            "hello",
            "s-1",
            "tiny",
            Usage(1, 2, 3),
        )
        assert got.metadata["finish_reason"] == "stop"
        assert got.metadata["choices"][0]["message"] == {"role": "assistant", "content": "hello"}

    def test_a_completion(self) -> None:
        def piece(text: str, why: str | None = None) -> Any:
            return {"choices": [{"index": 0, "text": text, "finish_reason": why}]}

        texts, reader = read(b"".join(events(piece("a"), piece("b", "length"))), "llm_generate")
        assert texts == ["a", "b"]
        assert reader.reading().metadata["choices"] == [
            {"index": 0, "finish_reason": "length", "text": "ab"}
        ]

    def test_tool_calls_are_put_together(self) -> None:
        def call(index: int, **function: str) -> dict[str, Any]:
            return {"index": index, "function": function}

        pieces = [
            delta(tool_calls=[{"id": "1", "type": "function", **call(0, name="f", arguments="")}]),
            delta(tool_calls=[call(0, arguments='{"a"')]),
            delta(tool_calls=[{"id": "2", "type": "function", **call(1, name="g", arguments="{")}]),
            delta(tool_calls=[call(0, arguments=":1}"), call(1, arguments="}")]),
            delta(finish_reason="tool_calls"),
        ]
        texts, reader = read(b"".join(events(*pieces)))
        calls = reader.reading().metadata["tool_calls"]
        assert texts == []
        assert [(c["id"], c["function"]) for c in calls] == [
            ("1", {"name": "f", "arguments": '{"a":1}'}),
            ("2", {"name": "g", "arguments": "{}"}),
        ]

    def test_what_an_engine_adds_is_put_together_too(self) -> None:
        pieces = [delta(reasoning_content="be"), delta(reasoning_content="cause"), delta("so")]
        _, reader = read(b"".join(events(*pieces)))
        message = reader.reading().metadata["choices"][0]["message"]
        assert message == {"reasoning_content": "because", "content": "so"}

    def test_a_role_that_is_told_again_is_not_appended(self) -> None:
        pieces = [delta("a", role="assistant"), delta("b", role="assistant")]
        _, reader = read(b"".join(events(*pieces)))
        assert reader.reading().metadata["choices"][0]["message"]["role"] == "assistant"

    def test_null_is_no_text(self) -> None:
        body = {"choices": [{"index": 0, "delta": {"content": None, "function_call": None}}]}
        more = {"choices": [{"index": 0, "delta": {"function_call": {"name": "f"}}}]}
        texts, reader = read(b"".join(events(body, more, {"choices": [{"delta": None}]})))
        assert texts == []
        assert reader.reading().metadata["choices"][0]["message"]["function_call"] == {"name": "f"}

    def test_what_comes_after_the_end_is_passed_over(self) -> None:
        texts, _ = read(b"".join([*events(delta("a")), *events(delta("b"))]))
        assert texts == ["a"]


class TestEnds:
    def test_a_stream_without_its_end_is_broken(self) -> None:
        with pytest.raises(EventError, match="ended before its end"):
            read(b"".join(events(delta("a"), done=False)))

    def test_a_reason_to_finish_is_an_end_too(self) -> None:
        texts, _ = read(b"".join(events(delta("a", finish_reason="stop"), done=False)))
        assert texts == ["a"]

    def test_the_last_empty_line_may_lack(self) -> None:
        raw = b"".join(events(delta("a")))
        assert read(raw[:-1])[0] == ["a"]
        assert read(raw[:-2])[0] == ["a"]

    def test_an_event_that_is_cut_off_is_broken(self) -> None:
        with pytest.raises(EventError, match="not JSON"):
            read(b'data: {"choices": [{"de')

    @pytest.mark.parametrize(
        "body",
        [
            {"error": {"message": "engine died", "type": "t", "code": "engine_failed"}},
            {"object": "error", "message": "engine died", "code": "engine_failed"},
        ],
    )
    def test_an_error_in_the_stream_is_told(self, body: Any) -> None:
        with pytest.raises(EventError) as told:
            read(b"".join(events(delta("a"), body)))
        assert (told.value.told.message, told.value.told.code) == ("engine died", "engine_failed")

    @pytest.mark.parametrize("data", ["[]", "3", '"x"', '{"choices": 1}'])
    def test_other_peoples_events_are_refused(self, data: str) -> None:
        assert json.loads(data) is not None
        with pytest.raises(EventError, match="not as the OpenAI API"):
            TextReader("llm_chat").feed(f"data: {data}\n\n".encode())
