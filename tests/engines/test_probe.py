"""Every way in which an engine can be ready, or not, and the words for it."""

from typing import Any

import httpx
import pytest

from engine_answers import PlayedEngines
from sagepool_crds.instance import Endpoint
from sagepool_engines.dialects import EngineLoad
from sagepool_engines.probe import (
    FACTS_EVERY,
    Depth,
    ProbeResult,
    choose_depth,
    probe,
    select_endpoints,
)
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

    async def probe(self, role: str = "llm", depth: Depth = Depth.EMBEDDING) -> ProbeResult:
        endpoint = Endpoint.model_validate({"role": role, "url": URL, "models": ["m"]})
        return await probe(PlayedEngines(self), "vllm", endpoint, depth)


async def test_ready_engine_tells_its_facts_and_load() -> None:
    assert await Engine().probe() == ProbeResult(
        "EngineReady", "", max_model_len=4096, load=EngineLoad(2, 0, 0.0), adapters=()
    )


async def test_ready_engine_tells_its_adapters() -> None:
    bot = {"id": "bot", "root": "acme/bot", "parent": "m"}
    models = {"data": [*MODELS["data"], bot]}
    result = await Engine(v1__models=httpx.Response(200, json=models)).probe()
    assert (result.is_ready, result.adapters) == (True, ("bot",))


async def test_embedding_engine_shows_its_space_once_asked() -> None:
    engine = Engine()
    assert (await engine.probe("embedding")).space == describe_space([0.6, 0.8])
    assert (await engine.probe("embedding", Depth.FACTS)).space is None
    assert engine.asked.count("/v1/embeddings") == 1


async def test_for_its_health_alone_an_engine_is_not_asked_what_it_serves() -> None:
    engine = Engine(v1__models=httpx.Response(200, json={"data": [{"id": "other"}]}))
    found = await engine.probe("embedding", Depth.HEALTH)
    assert found == ProbeResult("EngineReady", load=EngineLoad(2, 0, 0.0))
    assert engine.asked == ["/health", "/metrics"]


async def test_without_its_load_an_engine_is_not_asked_for_metrics() -> None:
    engine = Engine()
    endpoint = Endpoint.model_validate({"role": "llm", "url": URL, "models": ["m"]})
    found = await probe(PlayedEngines(engine), "vllm", endpoint, Depth.HEALTH, with_load=False)
    assert (found.verdict, found.load) == ("EngineReady", None)
    assert engine.asked == ["/health"]


@pytest.mark.parametrize(
    ("was_ready", "has_failed", "number", "depth"),
    [
        (False, False, 0, Depth.EMBEDDING),
        (False, True, 5, Depth.EMBEDDING),
        (True, False, 0, Depth.FACTS),
        (True, False, 1, Depth.HEALTH),
        (True, True, 1, Depth.FACTS),
        (True, False, FACTS_EVERY - 1, Depth.HEALTH),
        (True, False, FACTS_EVERY, Depth.FACTS),
    ],
)
def test_much_is_asked_of_an_engine_that_may_be_another(
    was_ready: bool, has_failed: bool, number: int, depth: Depth
) -> None:
    assert choose_depth(was_ready=was_ready, has_failed=has_failed, number=number) is depth


def test_one_address_is_asked_once_for_its_health_and_for_every_model() -> None:
    both = [
        Endpoint.model_validate({"role": role, "url": url, "models": ["m"]})
        for role, url in (("llm", URL), ("embedding", URL), ("embedding", "http://other:80"))
    ]
    assert [e.url for e in select_endpoints(both, Depth.HEALTH)] == [URL, "http://other:80"]
    assert list(select_endpoints(both, Depth.FACTS)) == both


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
    found = await probe(PlayedEngines(Engine()), "vllm", endpoint, Depth.EMBEDDING)
    assert found.verdict == "NoAddress"
