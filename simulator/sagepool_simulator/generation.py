"""The bytes of chat and completion answers, whole and as streams."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sagepool_simulator.text import answer_words
from sagepool_simulator.wire import encode, usage

_MARK: Final = "<text>"
"""Stands for the text while what is around it is rendered."""


@dataclass(frozen=True, slots=True)
class Form:
    """What tells the two APIs apart on the wire."""

    prefix: str
    """Of the answer's id."""
    whole: str
    chunk: str
    """`object` of a whole answer and of a chunk."""
    is_chat: bool

    def choice(self, text: str) -> dict[str, Any]:
        """The text in a choice of a whole answer."""
        if self.is_chat:
            return {"message": {"role": "assistant", "content": text, "tool_calls": []}}
        return {"text": text}

    def delta(self, text: str) -> dict[str, Any]:
        """The text in a choice of a chunk."""
        return {"delta": {"content": text}} if self.is_chat else {"text": text}


CHAT: Final = Form("chatcmpl", "chat.completion", "chat.completion.chunk", is_chat=True)
COMPLETION: Final = Form("cmpl", "text_completion", "text_completion", is_chat=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is answered.

    Choice `i` of prompt `p` has the index `p * n + i`, as in vLLM.
    """

    prompts: list[list[int]]
    """Token ids."""
    n: int
    """Choices for each prompt."""
    max_tokens: int
    """Length of each choice."""
    finish_reason: str
    """"length" when the request set the length, else "stop"."""


class Answer:
    """An answer that grows token by token.

    Args:
        form: chat or completion.
        plan: what is answered.
        request_id: the id in the answer.
        model: the name that was asked for.
        created: Unix time.
    """

    __slots__ = ("_choice_frames", "_created", "_form", "_model", "_request_id", "_words", "plan")

    def __init__(self, form: Form, plan: Plan, request_id: str, model: str, created: int) -> None:
        self.plan = plan
        self._form = form
        self._request_id = request_id
        self._model = model
        self._created = created
        self._words: list[Iterator[str]] = [
            answer_words(prompt, plan.max_tokens) for prompt in plan.prompts
        ]
        self._choice_frames: list[tuple[bytes, bytes]] = []

    def grow(self, prompt: int, tokens: int) -> list[str]:
        """The next pieces of text for the prompt of that number, one a token."""
        words = self._words[prompt]
        return [next(words) for _ in range(tokens)]

    def opening(self) -> list[bytes]:
        """What a stream begins with: in chat, the chunks that tell the role."""
        if not self._form.is_chat:
            return []
        delta = {"delta": {"role": "assistant", "content": ""}}
        return [self._chunk(index, delta, None) for index in range(self.plan.n)]

    def chunks(self, prompt: int, pieces: list[str]) -> list[bytes]:
        """A chunk of the stream for each piece and choice."""
        if not self._choice_frames:
            self._choice_frames = self._render_frames()
        first = prompt * self.plan.n
        frames = self._choice_frames[first : first + self.plan.n]
        return [head + piece.encode() + tail for piece in pieces for head, tail in frames]

    def closing(self, prompt: int) -> list[bytes]:
        """The chunks that say why the choices of a prompt ended."""
        delta: dict[str, Any] = {"delta": {}} if self._form.is_chat else {"text": ""}
        first, reason = prompt * self.plan.n, self.plan.finish_reason
        return [self._chunk(first + i, delta, reason) for i in range(self.plan.n)]

    def ending(self, cached: int, *, with_usage: bool) -> bytes:
        """What a stream ends with: usage if it was asked for, and [DONE]."""
        if not with_usage:
            return b"data: [DONE]\n\n"
        frame = {**self._object(self._form.chunk), "choices": [], "usage": self._usage(cached)}
        return b"data: %b\n\ndata: [DONE]\n\n" % encode(frame)

    def whole(self, texts: list[str], cached: int) -> bytes:
        """The answer in one piece, from the text for each prompt."""
        n, reason = self.plan.n, self.plan.finish_reason
        choices = [
            {
                "index": prompt * n + i,
                **self._form.choice(text),
                "logprobs": None,
                "finish_reason": reason,
                "stop_reason": None,
            }
            for prompt, text in enumerate(texts)
            for i in range(n)
        ]
        answer = self._object(self._form.whole)
        answer["choices"] = choices
        answer["usage"] = self._usage(cached)
        return encode(answer)

    def _render_frames(self) -> list[tuple[bytes, bytes]]:
        """What stands before and behind a piece of text, for each choice."""
        frames = []
        for index in range(len(self.plan.prompts) * self.plan.n):
            head, _, tail = self._chunk(index, self._form.delta(_MARK), None).rpartition(
                _MARK.encode()
            )
            frames.append((head, tail))
        return frames

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None) -> bytes:
        choice = {"index": index, **delta, "logprobs": None, "finish_reason": reason}
        return b"data: %b\n\n" % encode({**self._object(self._form.chunk), "choices": [choice]})

    def _object(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._request_id,
            "object": kind,
            "created": self._created,
            "model": self._model,
        }

    def _usage(self, cached: int) -> dict[str, Any]:
        plan = self.plan
        answers = len(plan.prompts) * plan.n
        return usage(sum(map(len, plan.prompts)), plan.max_tokens * answers, cached)
