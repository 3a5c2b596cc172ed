"""What is asked wrongly is refused in vLLM's words and form, and the connection lives on."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from simulator_server import CHAT, EMBEDDING, serving

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with serving(max_model_len=64) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/chat/completions", {"model": CHAT}, "messages"),
        ("/v1/chat/completions", {"model": CHAT, "messages": []}, "must not be empty"),
        ("/v1/chat/completions", {"model": CHAT, "messages": [{"content": "a"}]}, "role"),
        ("/v1/chat/completions", {"model": CHAT, "messages": HELLO, "n": 0}, "n must be"),
        ("/v1/chat/completions", {"model": CHAT, "messages": HELLO, "max_tokens": 0}, "at least 1"),
        ("/v1/chat/completions", {"model": CHAT, "messages": HELLO, "max_tokens": "x"}, "int"),
        (
            "/v1/chat/completions",
            {"model": CHAT, "messages": HELLO, "max_tokens": 64},
            "maximum context length is 64 tokens",
        ),
        (
            "/v1/chat/completions",
            {"model": CHAT, "messages": HELLO, "stream_options": {"include_usage": True}},
            "Stream options can only be defined",
        ),
        ("/v1/completions", {"model": CHAT, "prompt": []}, "prompt must be"),
        ("/v1/completions", {"model": CHAT, "prompt": [-1]}, "-1|>= 0"),
        ("/v1/embeddings", {"model": EMBEDDING, "input": []}, "input must be"),
        ("/v1/embeddings", {"model": EMBEDDING, "input": [[]]}, "input must be"),
        ("/v1/embeddings", {"model": EMBEDDING, "input": ["a", 1]}, "input must be"),
        ("/v1/embeddings", {"model": EMBEDDING, "input": "a " * 65}, "maximum context length"),
        ("/v1/embeddings", {"model": EMBEDDING, "input": "a", "dimensions": 33}, "dimensions must"),
        ("/v1/embeddings", {"model": EMBEDDING, "input": "a", "encoding_format": "x"}, "enum"),
        ("/v1/rerank", {"model": EMBEDDING, "query": "a", "documents": []}, "must not be empty"),
        ("/v1/score", {"model": EMBEDDING, "text_1": ["a", "b"], "text_2": "c"}, "text_1 must be"),
        ("/tokenize", {"model": CHAT}, "prompt or messages is missing"),
    ],
)
async def test_a_bad_body_is_refused(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], words: str
) -> None:
    answer = await client.post(path, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == 400
    assert any(word in error["message"] for word in words.split("|"))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"model": "\\ud800"}'])
async def test_broken_json_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "BadRequestError"


async def test_unknown_paths_and_wrong_methods_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nothing")).status_code == 404
    wrong = await client.get("/v1/chat/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert (await client.post("/v1/models")).status_code == 405
    assert (await client.head("/metrics")).status_code == 405
    assert (await client.get("/health")).status_code == 200


async def test_an_answer_without_a_length_fits_into_the_context(client: httpx.AsyncClient) -> None:
    body = {"model": CHAT, "prompt": "a " * 60}
    answer = (await client.post("/v1/completions", json=body)).json()
    assert answer["usage"]["completion_tokens"] == 4


async def test_a_request_that_the_cache_can_never_hold_is_refused() -> None:
    async with serving(kv_blocks=2) as url, httpx.AsyncClient(base_url=url) as client:
        body = {"model": CHAT, "prompt": "a", "max_tokens": 40}
        answer = await client.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert "raise --kv-blocks" in answer.json()["error"]["message"]


async def test_tokenize_counts_what_usage_counts(client: httpx.AsyncClient) -> None:
    counted = (await client.post("/tokenize", json={"model": CHAT, "messages": HELLO})).json()
    body = {"model": CHAT, "messages": HELLO}
    usage = (await client.post("/v1/chat/completions", json=body)).json()["usage"]
    assert counted["count"] == len(counted["tokens"]) == usage["prompt_tokens"]
    assert counted["max_model_len"] == 64


async def test_rerank_orders_documents_by_likeness(client: httpx.AsyncClient) -> None:
    body = {
        "model": EMBEDDING,
        "query": "who routes requests",
        "documents": ["cheese and wine", "a router routes each request"],
        "top_n": 1,
    }
    results = (await client.post("/v1/rerank", json=body)).json()["results"]
    assert [result["index"] for result in results] == [1]
    assert results[0]["document"]["text"] == "a router routes each request"


async def test_one_text_is_scored_against_many(client: httpx.AsyncClient) -> None:
    body = {"model": EMBEDDING, "text_1": "wine", "text_2": ["wine", "engine"]}
    data = (await client.post("/v1/score", json=body)).json()["data"]
    assert data[0]["score"] == pytest.approx(1.0)
    assert data[1]["score"] < data[0]["score"]


async def test_the_request_id_comes_back(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models", headers={"x-request-id": "abc"})
    assert answer.headers["x-request-id"] == "abc"
