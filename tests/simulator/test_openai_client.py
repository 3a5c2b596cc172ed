"""The official client finds what it expects of an OpenAI-compatible engine."""

import base64
import math
import struct
from collections.abc import AsyncIterator

import openai
import pytest

from sagepool_simulator.embedding import cosine
from simulator_server import CHAT, EMBEDDING, serving


@pytest.fixture
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        serving() as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [CHAT, EMBEDDING]


async def test_a_chat_answer_has_the_length_that_was_asked_for(
    client: openai.AsyncOpenAI,
) -> None:
    answer = await client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "Hello"}], max_tokens=5
    )
    assert answer.model == CHAT
    assert len((answer.choices[0].message.content or "").split()) == 5
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5


async def test_an_answer_of_no_given_length_stops_by_itself(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "Hello"}]
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


async def test_a_stream_says_what_the_whole_answer_says(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "Hello"}], max_tokens=6, n=2
    )
    stream = await client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=6,
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    texts, roles, reasons, usage = ["", ""], [], [], None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            roles += [choice.delta.role] if choice.delta.role else []
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert texts == [choice.message.content for choice in whole.choices]
    assert roles == ["assistant"] * 2
    assert reasons == ["length"] * 2
    assert usage == whole.usage


async def test_a_repeated_prompt_reports_its_cached_tokens(client: openai.AsyncOpenAI) -> None:
    for _ in range(2):
        answer = await client.chat.completions.create(
            model=CHAT, messages=[{"role": "user", "content": "one two three " * 20}]
        )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 48


async def test_completions_answer_every_prompt_in_order(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model=CHAT, prompt=["one", "two two"], n=2, max_tokens=3
    )
    alone = await client.completions.create(model=CHAT, prompt="two two", max_tokens=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[2].text == answer.choices[3].text == alone.choices[0].text
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3
    assert answer.usage.completion_tokens == 12


async def test_completions_stream_every_prompt(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model=CHAT, prompt=[[1, 2], [3]], max_tokens=3)
    stream = await client.completions.create(
        model=CHAT, prompt=[[1, 2], [3]], max_tokens=3, stream=True
    )
    texts, reasons = ["", ""], []
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
        reasons += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == ["length"] * 2


async def test_embeddings_are_unit_vectors_in_the_order_of_the_inputs(
    client: openai.AsyncOpenAI,
) -> None:
    inputs = ["a router for engines", "cheese and wine", "routers of an engine"]
    answer = await client.embeddings.create(model=EMBEDDING, input=inputs, encoding_format="float")
    vectors = [item.embedding for item in answer.data]
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert all(math.isclose(cosine(vector, vector), 1.0, rel_tol=1e-6) for vector in vectors)
    assert cosine(vectors[0], vectors[2]) > cosine(vectors[0], vectors[1])
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


async def test_base64_is_the_same_vector_in_little_endian_float32(
    client: openai.AsyncOpenAI,
) -> None:
    plain = await client.embeddings.create(model=EMBEDDING, input="a", encoding_format="float")
    raw = await client.embeddings.with_raw_response.create(
        model=EMBEDDING, input="a", encoding_format="base64"
    )
    packed = base64.b64decode(raw.http_response.json()["data"][0]["embedding"])
    assert struct.unpack("<32f", packed) == pytest.approx(plain.data[0].embedding, abs=1e-7)


async def test_dimensions_shorten_and_keep_length_one(client: openai.AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model=EMBEDDING, input="some text", dimensions=8)
    vector = answer.data[0].embedding
    assert len(vector) == 8
    assert math.isclose(cosine(vector, vector), 1.0, rel_tol=1e-6)


async def test_token_ids_and_blank_texts_are_embedded(client: openai.AsyncOpenAI) -> None:
    ids = await client.embeddings.create(model=EMBEDDING, input=[[101, 2023, 102], [7]])
    assert len(ids.data) == 2
    assert ids.usage.prompt_tokens == 4
    blank = await client.embeddings.create(model=EMBEDDING, input=["", " "])
    assert [len(item.embedding) for item in blank.data] == [32, 32]


async def test_an_unknown_model_is_not_found(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="The model `other` does not exist"):
        await client.embeddings.create(model="other", input="a")


async def test_a_model_serves_only_its_own_kind_of_call(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does not support Embeddings API"):
        await client.embeddings.create(model=CHAT, input="a")
    with pytest.raises(openai.BadRequestError, match="does not support Chat Completions API"):
        await client.chat.completions.create(model=EMBEDDING, messages=[])
