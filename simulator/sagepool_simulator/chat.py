"""The routes that make text: chat and completions."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from sagepool_simulator.adapters import Served
from sagepool_simulator.calls import Call, InEngine
from sagepool_simulator.connection import Work
from sagepool_simulator.engine import Engine, Sequence
from sagepool_simulator.generation import CHAT, COMPLETION, Answer, Form, Plan
from sagepool_simulator.kvcache import BLOCK_TOKENS
from sagepool_simulator.settings import Settings
from sagepool_simulator.streaming import Stream
from sagepool_simulator.text import tokenize
from sagepool_simulator.wire import (
    ApiError,
    ChatRequest,
    CompletionRequest,
    Generation,
    bad_request,
    check_model,
    messages_text,
    split_inputs,
)

_MAX_CHOICES: Final = 128

_chat = msgspec.json.Decoder(ChatRequest).decode
_completion = msgspec.json.Decoder(CompletionRequest).decode


class TextRoutes:
    """Chat and completions on an engine.

    Args:
        settings: what the engine was told.
        served: the names that it answers to.
        engine: computes the answers.
        loop: its clock and timers.
        new_id: a new id at each call.
        now: Unix time.
    """

    def __init__(
        self,
        settings: Settings,
        served: Served,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        new_id: Callable[[], str],
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._served = served
        self._engine = engine
        self._loop = loop
        self._new_id = new_id
        self._now = now

    def serve_chat(self, call: Call) -> Work | None:
        """POST /v1/chat/completions."""
        asked = _chat(call.body)
        check_model(self._served, asked.model, "llm")
        if not asked.messages:
            raise bad_request("messages must not be empty", "messages")
        return self._generate(CHAT, asked, [tokenize(messages_text(asked.messages))], call)

    def serve_completion(self, call: Call) -> Work | None:
        """POST /v1/completions."""
        asked = _completion(call.body)
        check_model(self._served, asked.model, "llm")
        given = split_inputs(asked.prompt, "prompt")
        prompts = [tokenize(p) if isinstance(p, str) else p for p in given]
        return self._generate(COMPLETION, asked, prompts, call)

    def _generate(
        self, form: Form, asked: Generation, prompts: list[list[int]], call: Call
    ) -> Work | None:
        if asked.stream_options is not None and not asked.stream:
            raise bad_request(
                "Stream options can only be defined when `stream=True`.", "stream_options"
            )
        answer = Answer(
            form,
            self._plan(asked, prompts),
            f"{form.prefix}-{self._new_id()}",
            asked.model,
            int(self._now()),
        )
        if not asked.stream:
            return self._answer_whole(answer, call)
        with_usage = asked.stream_options is not None and asked.stream_options.include_usage
        stream = Stream(answer, call, self._engine, self._loop, with_usage=with_usage)
        stream.start()
        return stream

    def _plan(self, asked: Generation, prompts: list[list[int]]) -> Plan:
        n = 1 if asked.n is None else asked.n
        if not 1 <= n <= _MAX_CHOICES:
            raise bad_request(f"n must be from 1 to {_MAX_CHOICES}, got {n}.", "n")
        longest = max(map(len, prompts))
        limit = self._settings.max_model_len
        wanted = asked.max_completion_tokens
        if wanted is None:
            wanted = asked.max_tokens
        if wanted is not None and wanted < 1:
            raise bad_request(f"max_tokens must be at least 1, got {wanted}.", "max_tokens")
        length = wanted or min(self._settings.default_max_tokens, max(1, limit - longest))
        if longest + length > limit:
            raise _too_long(limit, longest, length)
        if not self._engine.cache.fits(longest + length * n):
            raise bad_request(
                f"The request needs {longest + length * n} tokens of key-value cache; the engine "
                f"has {self._settings.kv_blocks * BLOCK_TOKENS}. Ask for less or raise --kv-blocks."
            )
        return Plan(prompts, n, length, "stop" if wanted is None else "length")

    def _answer_whole(self, answer: Answer, call: Call) -> Work:
        plan = answer.plan
        pieces: list[list[str]] = [[] for _ in plan.prompts]
        unfinished = set(range(len(pieces)))

        def grow(number: int, tokens: int) -> None:
            pieces[number] += answer.grow(number, tokens)

        def finish(number: int) -> None:
            unfinished.discard(number)
            if not unfinished:
                cached = sum(sequence.cached_tokens for sequence in sequences)
                call.connection.reply(200, answer.whole(["".join(p) for p in pieces], cached))

        sequences = [
            Sequence(
                prompt,
                plan.max_tokens,
                plan.n,
                partial(grow, number),
                partial(finish, number),
                plan.finish_reason,
            )
            for number, prompt in enumerate(plan.prompts)
        ]
        for sequence in sequences:
            self._engine.submit(sequence)
        return InEngine(self._engine, *sequences)


def _too_long(limit: int, prompt: int, answer: int) -> ApiError:
    return bad_request(
        f"This model's maximum context length is {limit} tokens. However, you requested "
        f"{prompt + answer} tokens ({prompt} in the prompt, {answer} for the answer)."
    )
