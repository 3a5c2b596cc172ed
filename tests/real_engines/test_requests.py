"""A router over vLLM: chat, embeddings, and what vLLM refuses."""

import asyncio
import math
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any, Final

import openai
import pytest
from openai.types import CreateEmbeddingResponse

from real_pair import Pair
from router_process import RouterProcess
from sagepool_engines.dialects import EngineLoad
from vllm_metrics import calls_of_embeddings, read_metrics

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1800)]

MESSAGES: Final[Any] = [{"role": "user", "content": "hello"}]
GREEDY: Final[Any] = {"model": "chat", "messages": MESSAGES, "temperature": 0, "max_tokens": 1000}
WORDS: Final = (
    "rain",
    "fell",
    "on",
    "the",
    "quiet",
    "hills",
    "while",
    "a",
    "small",
    "cat",
    "slept",
)
"""Of MiniLM's vocabulary, so that callers' texts differ in length and meaning."""


def client_of(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def tokens_of(answers: Sequence[CreateEmbeddingResponse]) -> int:
    return sum(answer.usage.prompt_tokens for answer in answers)


async def test_a_chat_streams_while_the_engine_computes(
    router: RouterProcess, running: Pair
) -> None:
    extra = {"ignore_eos": True}
    async with client_of(router.url) as client:
        stream = await client.chat.completions.create(
            **GREEDY, stream=True, stream_options={"include_usage": True}, extra_body=extra
        )
        parts: list[str] = []
        meanwhile = EngineLoad(0, 0, 0.0)
        async for chunk in stream:
            if chunk.choices:
                parts.append(chunk.choices[0].delta.content or "")
            # The first letter may be there before the figures are.
            if not meanwhile.running:
                meanwhile = await read_metrics(running.chat.url)
        assert (meanwhile.running, meanwhile.waiting) == (1, 0)
        assert 0 < meanwhile.kv_cache_usage < 1
        assert chunk.usage is not None
        assert chunk.usage.completion_tokens == 1000
        whole = await client.chat.completions.create(**GREEDY, extra_body=extra)
    assert len(parts) > 100
    assert "".join(parts) == whole.choices[0].message.content
    assert (await read_metrics(running.chat.url)).running == 0


@pytest.mark.parametrize("form", [openai.omit, "float"], ids=["base64", "float"])
async def test_merged_embeddings_are_those_of_the_engine(
    router: RouterProcess, running: Pair, form: Any
) -> None:
    """The client asks for base64 unless it is told otherwise."""
    letters = cycle(WORDS)
    callers = [
        [" ".join(islice(letters, 1 + (call + text) % 11)) for text in range(1 if call % 4 else 3)]
        for call in range(60)
    ]
    async with client_of(router.url) as client, client_of(running.text.url) as direct:
        alone = [await direct.embeddings.create(model="text", input=texts) for texts in callers]
        before = await calls_of_embeddings(running.text.url)
        merged = await asyncio.gather(
            *(
                client.embeddings.create(model="text", input=texts, encoding_format=form)
                for texts in callers
            )
        )
    assert await calls_of_embeddings(running.text.url) - before < len(callers) / 2
    # The engine tells the tokens of a whole call: shares are reckoned, none is lost.
    assert tokens_of(merged) == tokens_of(alone)
    for texts, ours, theirs in zip(callers, merged, alone, strict=True):
        assert [entry.index for entry in ours.data] == list(range(len(texts)))
        for a, b in zip(ours.data, theirs.data, strict=True):
            assert cosine(a.embedding, b.embedding) > 0.9999


async def test_a_text_that_is_too_long_fails_its_own_caller_alone(router: RouterProcess) -> None:
    texts = [f"text {number}" for number in range(16)]
    texts[9] = "long " * 400
    async with client_of(router.url) as client:
        answers = await asyncio.gather(
            *(client.embeddings.create(model="text", input=text) for text in texts),
            return_exceptions=True,
        )
    refused = [n for n, answer in enumerate(answers) if isinstance(answer, BaseException)]
    assert refused == [9]
    assert isinstance(answers[9], openai.BadRequestError)
    assert "maximum context length is 256 tokens" in answers[9].message


REFUSED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "a prompt that is too long": (
        "/v1/chat/completions",
        {"model": "chat", "messages": [{"role": "user", "content": "x" * 3000}]},
    ),
    "a stream of one": (
        "/v1/chat/completions",
        {"model": "chat", "messages": [{"role": "user", "content": "x" * 3000}], "stream": True},
    ),
    "a field of the wrong type": (
        "/v1/chat/completions",
        {"model": "chat", "messages": MESSAGES, "top_k": "many"},
    ),
    "dimensions that the model has not": (
        "/v1/embeddings",
        {"model": "text", "input": "a", "dimensions": 3},
    ),
    "a text that is too long": ("/v1/embeddings", {"model": "text", "input": "long " * 400}),
}


@pytest.mark.parametrize(("path", "body"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_the_engine_refuses_it_refuses_through_the_router(
    router: RouterProcess, running: Pair, path: str, body: dict[str, Any]
) -> None:
    engine = running.chat if body["model"] == "chat" else running.text
    direct = await router.client.post(engine.url + path, json=body)
    answer = await router.client.post(router.url + path, json=body)
    assert (answer.status_code, answer.json()) == (400, direct.json())
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


async def test_a_field_that_the_engine_does_not_know_is_taken_as_it_takes_it(
    router: RouterProcess,
) -> None:
    body = {**GREEDY, "max_tokens": 4, "no_such_field": 1}
    answer = await router.client.post(f"{router.url}/v1/chat/completions", json=body)
    assert answer.status_code == 200


async def test_a_model_that_nobody_serves_is_not_found(router: RouterProcess) -> None:
    async with client_of(router.url) as client:
        with pytest.raises(openai.NotFoundError, match="models: chat, text"):
            await client.embeddings.create(model="other", input="a")
