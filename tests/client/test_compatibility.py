"""Other people's clients against a real router over real engines, as a person runs them."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from client_pool import CHAT, EMBEDDING, Pool, running_pool
from client_server import Reply, scripted
from frameworks import TOOLED, call_tools, run_program


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Two chat engines, one that embeds and one that calls tools, behind a router from a file."""
    models = Reply(body={"data": [{"id": TOOLED}]})
    with (
        scripted(call_tools, models=models) as tooled,
        running_pool(
            tmp_path_factory.mktemp("pool"), chats=2, also={TOOLED: tooled.url}
        ) as running,
    ):
        yield running


@pytest.fixture
def client(pool: Pool) -> Iterator[openai.OpenAI]:
    """The official client."""
    with openai.OpenAI(base_url=f"{pool.url}/v1", api_key="none", max_retries=0) as client:
        yield client


class TestOpenAI:
    def test_models_are_listed_with_their_ids(self, client: openai.OpenAI) -> None:
        assert sorted(model.id for model in client.models.list()) == [CHAT, EMBEDDING, TOOLED]
        assert client.models.retrieve(CHAT).owned_by == "sagepool-router"

    def test_a_chat(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(
            model=CHAT, messages=[{"role": "user", "content": "Hello"}], max_tokens=5, temperature=0
        )
        assert len((answer.choices[0].message.content or "").split()) == 5
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 5

    def test_a_stream_with_its_usage(self, client: openai.OpenAI) -> None:
        stream = client.chat.completions.create(
            model=CHAT,
            messages=[{"role": "user", "content": "Hello"}],
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert len(text.split()) == 5
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 5

    def test_several_choices(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(
            model=CHAT, messages=[{"role": "user", "content": "Hello"}], max_tokens=3, n=3
        )
        assert [choice.index for choice in answer.choices] == [0, 1, 2]

    def test_tools_are_called(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(
            model=TOOLED,
            messages=[{"role": "user", "content": "How is it in Ulm?"}],
            tools=[{"type": "function", "function": {"name": "weather", "parameters": {}}}],
            tool_choice={"type": "function", "function": {"name": "weather"}},
        )
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments) == {"city": "Ulm"}

    def test_a_completion(self, client: openai.OpenAI) -> None:
        answer = client.completions.create(model=CHAT, prompt="Once", max_tokens=4)
        assert len(answer.choices[0].text.split()) == 4

    @pytest.mark.parametrize("form", ["float", "base64"])
    def test_embeddings_in_both_forms(self, client: openai.OpenAI, form: Any) -> None:
        answer = client.embeddings.create(model=EMBEDDING, input=["a", "b"], encoding_format=form)
        again = client.embeddings.create(model=EMBEDDING, input=["b"], encoding_format=form)
        assert [item.index for item in answer.data] == [0, 1]
        assert answer.data[1].embedding == again.data[0].embedding
        assert answer.usage.prompt_tokens > 0

    @pytest.mark.parametrize(
        ("body", "kind", "code", "param"),
        [
            ({"model": "nope"}, openai.NotFoundError, "model_not_found", "model"),
            ({"temperature": 3}, openai.BadRequestError, "invalid_temperature", "temperature"),
            ({"max_tokens": 0}, openai.BadRequestError, "invalid_max_tokens", "max_tokens"),
            ({"messages": []}, openai.BadRequestError, "missing_messages", "messages"),
        ],
    )
    def test_errors_are_its_own(
        self, client: openai.OpenAI, body: Any, kind: Any, code: str, param: str
    ) -> None:
        given = {"model": CHAT, "messages": [{"role": "user", "content": "Hello"}], **body}
        with pytest.raises(kind) as told:
            client.chat.completions.create(**given)
        assert (told.value.code, told.value.param) == (code, param)

    async def test_many_awaited_at_once(self, pool: Pool) -> None:
        async with openai.AsyncOpenAI(base_url=f"{pool.url}/v1", api_key="none") as client:
            answers = await asyncio.gather(
                *(client.embeddings.create(model=EMBEDDING, input=f"text {n}") for n in range(64))
            )
        assert [len(answer.data) for answer in answers] == [1] * 64

    def test_the_raw_answer_says_who_answered(self, client: openai.OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(
            model=CHAT, messages=[{"role": "user", "content": "Hello"}], max_tokens=1
        )
        assert raw.headers["x-sagepool-instance"].startswith("llm-")


@pytest.mark.frameworks
def test_langchain(pool: Pool, tmp_path: Path) -> None:
    said = run_program("langchain_program.py", pool.url, tmp_path)
    assert said["words"] == 8
    assert said["usage"]["output_tokens"] == 8
    assert (said["pieces"], len(said["streamed"].split())) == (8, 8)
    assert said["batch"] == [8, 8, 8]
    assert said["tools"] == [["weather", {"city": "Ulm"}]]
    assert said["documents"] == [said["query"]] * 3
    assert said["same"]
    assert "NotFoundError: " in said["error"]
    assert f"models: {CHAT}, {EMBEDDING}, {TOOLED}" in said["error"]


@pytest.mark.frameworks
def test_llama_index(pool: Pool, tmp_path: Path) -> None:
    said = run_program("llama_index_program.py", pool.url, tmp_path)
    assert said["words"] == 8
    assert said["pieces"] == 8
    assert said["found"] == "trains run on rails"
    assert said["told"] == 8
    assert said["dimension"] > 1
