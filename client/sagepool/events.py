"""A stream of server-sent events, read piece by piece into texts and one answer. Pure.

Only what OpenAI-compatible servers send: `data` lines and an empty line after each event; comments
and other fields are passed over (WHATWG HTML, "Server-sent events"). Lines end at LF, CR LF or CR
and nowhere else: a JSON text may hold U+2028 and its like as they are.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from sagepool.answers import ToldError, WireAnswer, WireUsage, read_told_error
from sagepool.calls import Reading, metadata_of, usage_of
from sagepool.results import RequestType

_END: Final = "[DONE]"
_SET_ONCE: Final = frozenset({"role", "id", "type", "name", "index"})
"""Texts of a delta that are whole, also where a server repeats them; all others are appended."""


class EventError(Exception):
    """The stream tells an error, or is none; `told` is what it says."""

    def __init__(self, told: ToldError) -> None:
        super().__init__(told.message)
        self.told = told


class EventDecoder:
    """Cuts bytes into the data of events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[str]:
        """The data of the events that are complete now."""
        lines = (self._rest + piece).replace(b"\r\n", b"\n")
        # a CR at the end may be half of a CR LF
        tail = lines[-1:] == b"\r"
        parts = (lines[:-1] if tail else lines).replace(b"\r", b"\n").split(b"\n")
        self._rest = parts.pop() + (b"\r" if tail else b"")
        found = []
        for line in parts:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
            elif not line and self._data:
                found.append("\n".join(self._data))
                self._data = []
        return found


class TextReader:
    """Turns the events of a chat or a completion into texts and, at its end, an answer."""

    def __init__(self, request_type: RequestType) -> None:
        self._decoder = EventDecoder()
        self._merge: Callable[[Mapping[str, Any]], str] = (
            self._merge_chat if request_type == "llm_chat" else self._merge_completion
        )
        self._choice: dict[str, Any] = {}
        self._id: str | None = None
        self._model: str | None = None
        self._usage: WireUsage | None = None
        self._texts: list[str] = []
        self._is_ended = False

    @property
    def is_complete(self) -> bool:
        """The stream has said that it is, or why its text ends: some servers say only that."""
        return self._is_ended or self._choice.get("finish_reason") is not None

    @property
    def text(self) -> str:
        """All that has come."""
        return "".join(self._texts)

    def feed(self, piece: bytes) -> list[str]:
        """The texts that came with these bytes.

        Raises:
            EventError: the stream tells an error or is not one of the OpenAI API.
        """
        texts = [self._take(data) for data in self._decoder.feed(piece)]
        found = [text for text in texts if text]
        self._texts += found
        return found

    def close(self) -> None:
        """No more bytes come: read what lacks only its empty line.

        Raises:
            EventError: the stream ends in the middle.
        """
        self.feed(b"\n\n")
        if not self.is_complete:
            raise EventError(ToldError("the stream ended before its end"))

    def reading(self) -> Reading[str]:
        """The answer that the events make."""
        metadata = metadata_of([self._choice] if self._choice else [])
        return Reading(self.text, self._id, self._model, usage_of(self._usage), metadata)

    def _take(self, data: str) -> str:
        if self._is_ended:
            return ""
        if data == _END:
            self._is_ended = True
            return ""
        event = _read_event(data)
        self._id = self._id or event.id
        self._model = self._model or event.model
        self._usage = event.usage or self._usage
        return "".join(map(self._merge, event.choices))

    def _merge_chat(self, choice: Mapping[str, Any]) -> str:
        delta = choice.get("delta")
        message = self._choice.setdefault("message", {})
        if not isinstance(delta, Mapping):
            delta = {}
        self._merge_rest(choice, "delta")
        _append(message, delta)
        text = delta.get("content")
        return text if isinstance(text, str) else ""

    def _merge_completion(self, choice: Mapping[str, Any]) -> str:
        text = choice.get("text")
        self._merge_rest(choice, "text")
        if not isinstance(text, str):
            return ""
        self._choice["text"] = self._choice.get("text", "") + text
        return text

    def _merge_rest(self, choice: Mapping[str, Any], besides: str) -> None:
        for name, value in choice.items():
            if name != besides and value is not None:
                self._choice[name] = value


def _read_event(data: str) -> WireAnswer:
    try:
        body = json.loads(data)
    except ValueError:
        raise EventError(ToldError(f"an event is not JSON: {data[:100]!r}")) from None
    if isinstance(body, Mapping) and (body.get("error") or body.get("object") == "error"):
        raise EventError(read_told_error(body))
    try:
        return WireAnswer.model_validate(body)
    except ValidationError:
        raise EventError(ToldError("an event is not as the OpenAI API's")) from None


def _append(whole: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add a delta to what has come: texts are appended, entries of lists found by their index."""
    for name, value in delta.items():
        old = whole.get(name)
        if isinstance(value, str) and isinstance(old, str) and name not in _SET_ONCE:
            whole[name] = old + value
        elif isinstance(value, Mapping):
            whole[name] = merged = old if isinstance(old, dict) else {}
            _append(merged, value)
        elif isinstance(value, list):
            whole[name] = entries = old if isinstance(old, list) else []
            _append_entries(entries, value)
        elif value is not None or name not in whole:
            whole[name] = value


def _append_entries(whole: list[Any], entries: list[Any]) -> None:
    for entry in entries:
        if not isinstance(entry, Mapping):
            whole.append(entry)
            continue
        index = entry.get("index")
        found = next((old for old in whole if index is not None and old["index"] == index), None)
        if found is None:
            found = {"index": index} if index is not None else {}
            whole.append(found)
        _append(found, entry)
