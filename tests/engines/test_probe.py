"""Every way in which an engine can be ready, or not, and the words for it."""

from typing import Any

import httpx
import pytest

from sagepool_crds.instance import Endpoint
from sagepool_engines.dialects import EngineLoad
from sagepool_engines.probe import ProbeResult, probe
from sagepool_engines.space import describe_space

URL = "http://engine:8000"
MODELS = {"data": [{"id": "m", "max_model_len": 4096}]}
VECTOR = {"data": [{"embedding": [0.6, 0.8]}]}


class Engine:
    """Answers by path; a callable is called."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "/health": httpx.Response(200),
            "/v1/models": httpx.Response(200, json=MODELS),
            "/v1/embeddings": httpx.Response(200, json=VECTOR),
            "/metrics": httpx.Response(200, text="vllm:num_requests_running 2\n"),
            **{f"/{path.replace('__', '/')}": answer for path, answer in answers.items()},
        }
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        answer = self.answers.get(request.url.path, httpx.Response(404))
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx.Response)
        return answer

    async def probe(self, role: str = "llm", *, embed: bool = True) -> ProbeResult:
        endpoint = Endpoint.model_validate({"role": role, "url": URL, "models": ["m"]})
        async with httpx.AsyncClient(transport=httpx.MockTransport(self)) as client:
            return await probe(client, "vllm", endpoint, embed=embed)


async def test_ready_engine_tells_its_facts_and_load() -> None:
    assert await Engine().probe() == ProbeResult(
        "EngineReady", "", max_model_len=4096, load=EngineLoad(2, 0, 0.0)
    )


async def test_embedding_engine_shows_its_space_once_asked() -> None:
    engine = Engine()
    assert (await engine.probe("embedding")).space == describe_space([0.6, 0.8])
    assert (await engine.probe("embedding", embed=False)).space is None
    assert engine.asked.count("/v1/embeddings") == 1


async def test_chat_engine_is_asked_for_no_embedding() -> None:
    engine = Engine()
    await engine.probe("llm")
    assert "/v1/embeddings" not in engine.asked


async def test_engine_without_metrics_is_ready_without_a_load() -> None:
    found = await Engine(metrics=httpx.Response(404)).probe()
    assert (found.verdict, found.load) == ("EngineReady", None)


@pytest.mark.parametrize(
    ("role", "answers", "verdict", "words"),
    [
        ("llm", {"health": httpx.Response(503)}, "Unhealthy", "/health answers 503"),
        ("llm", {"health": httpx.ReadTimeout("slow")}, "Unreachable", "not answer in time"),
        ("llm", {"health": httpx.ConnectError("refused")}, "Unreachable", "cannot be reached"),
        ("llm", {"v1__models": httpx.Response(404)}, "UnexpectedAnswer", "is answered 404"),
        ("llm", {"v1__models": httpx.Response(200, text="<html>")}, "UnexpectedAnswer", "not JSON"),
        (
            "llm",
            {"v1__models": httpx.Response(200, json={"data": [{"id": "other"}]})},
            "ModelNotServed",
            "serves other, not m",
        ),
        (
            "embedding",
            {"v1__embeddings": httpx.Response(500)},
            "EmbeddingFailed",
            "answered with 500",
        ),
        (
            "embedding",
            {"v1__embeddings": httpx.Response(200, json={"data": [{"embedding": [0, 0]}]})},
            "EmbeddingFailed",
            "empty, zero or not finite",
        ),
        (
            "embedding",
            {"v1__embeddings": httpx.Response(200, json={"data": [{"embedding": "AAAA"}]})},
            "EmbeddingFailed",
            "not in OpenAI's form",
        ),
    ],
)
async def test_what_is_wrong_is_said(
    role: str, answers: dict[str, Any], verdict: str, words: str
) -> None:
    found = await Engine(**answers).probe(role)
    assert found.verdict == verdict
    assert words in found.message
    assert URL in found.message


async def test_refused_connection_is_told_from_a_slow_answer() -> None:
    assert (await Engine(health=httpx.ConnectError("refused")).probe()).is_refused
    assert not (await Engine(health=httpx.ReadTimeout("slow")).probe()).is_refused


async def test_endpoint_without_an_address_is_not_asked() -> None:
    endpoint = Endpoint.model_validate({"role": "llm", "models": ["m"]})
    async with httpx.AsyncClient(transport=httpx.MockTransport(Engine())) as client:
        found = await probe(client, "vllm", endpoint, embed=True)
    assert found.verdict == "NoAddress"
