"""What probes, sidecars and the operator ask of vLLM itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from real_models import Models
from real_pair import Pair
from router_process import file_router
from sagepool_crds.instance import Endpoint
from sagepool_engines.adapters import AdapterError, list_adapters, load_adapter, unload_adapter
from sagepool_engines.dialects import DIALECTS
from sagepool_engines.http import EngineHttp
from sagepool_engines.probe import Depth, probe
from sagepool_operator.engine_session import EngineSession
from sagepool_sidecar.page import MetricNames
from sagepool_sidecar.page import read_load as read_load_of_sidecar
from vllm_metrics import read_page, until_load

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1800)]


@pytest.fixture
async def http() -> AsyncIterator[EngineHttp]:
    async with aclosing(EngineSession(30.0)) as http:
        yield http


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=120) as client:
        yield client


def chat(model: str = "chat", **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hello"}]
    return {"model": model, "messages": messages, "temperature": 0, "ignore_eos": True, **fields}


async def test_a_probe_finds_both_engines_ready(running: Pair, http: EngineHttp) -> None:
    talks = Endpoint(role="llm", url=running.chat.url, models=["chat"])
    found = await probe(http, "vllm", talks, Depth.EMBEDDING)
    assert (found.verdict, found.max_model_len, found.adapters) == ("EngineReady", 2048, ())
    embeds = Endpoint(role="embedding", url=running.text.url, models=["text"])
    found = await probe(http, "vllm", embeds, Depth.EMBEDDING)
    assert (found.verdict, found.max_model_len) == ("EngineReady", 256)
    assert found.space is not None
    assert found.space.dimension == 384
    assert found.space.norm == pytest.approx(1, abs=1e-3)
    other = Endpoint(role="embedding", url=running.text.url, models=["other"])
    found = await probe(http, "vllm", other, Depth.EMBEDDING)
    assert found.verdict == "ModelNotServed"
    assert f"{running.text.url} serves text, not other" in found.message


async def test_requests_that_wait_in_the_engine_are_counted(
    running: Pair, client: httpx.AsyncClient
) -> None:
    """It takes four at a time."""
    url = f"{running.chat.url}/v1/chat/completions"
    async with AsyncExitStack() as stack:
        for _ in range(6):
            body = chat(stream=True, max_tokens=2000)
            await stack.enter_async_context(client.stream("POST", url, json=body))
        load = await until_load(running.chat.url, lambda load: load.waiting == 2)
        assert load.running == 4
    # Whoever leaves ends what was computed for him.
    await until_load(running.chat.url, lambda load: not load.running and not load.waiting)


async def test_a_sidecar_reads_the_same_and_sees_every_request(
    running: Pair, client: httpx.AsyncClient
) -> None:
    vllm = DIALECTS["vllm"]
    names = MetricNames(
        vllm.running_metrics, vllm.waiting_metrics, vllm.usage_metrics, vllm.progress_metrics
    )
    calls = {
        running.chat: ("/v1/chat/completions", chat(max_tokens=1)),
        running.text: ("/v1/embeddings", {"model": "text", "input": "a"}),
    }
    for engine, (path, body) in calls.items():
        before = read_load_of_sidecar(await read_page(engine.url), names)
        assert before.is_idle
        assert (await client.post(engine.url + path, json=body)).status_code == 200
        async with asyncio.timeout(30):
            while read_load_of_sidecar(await read_page(engine.url), names) == before:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)


async def test_adapters_come_and_go_while_the_engine_runs(
    running: Pair, models: Models, http: EngineHttp, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    engine = running.chat.url

    async def load(path: Path, *, in_place: bool = False) -> None:
        await load_adapter(http, engine, "bot", str(path), in_place=in_place, limit_s=120)

    async def say(url: str, model: str) -> str:
        answer = await client.post(f"{url}/v1/chat/completions", json=chat(model, max_tokens=40))
        assert answer.status_code == 200, answer.text
        said: str = answer.json()["choices"][0]["message"]["content"]
        return said

    assert await list_adapters(http, "vllm", engine) == {}
    with pytest.raises(AdapterError, match="No adapter found"):
        await load(tmp_path)
    await load(models.adapter)
    assert await list_adapters(http, "vllm", engine) == {"bot": str(models.adapter)}
    with pytest.raises(AdapterError, match="already been loaded"):
        await load(models.adapter)
    await load(models.adapter, in_place=True)
    async with file_router(running.write_pool(tmp_path / "pool.yaml")) as router:
        await router.until_instances(chat=True, text=True)
        adapted = await say(router.url, "bot")
        assert adapted == await say(engine, "bot")
        assert adapted != await say(router.url, "chat")
        listed = (await router.get("/v1/models")).json()["data"]
        assert {entry["id"]: entry["parent"] for entry in listed}["bot"] == "chat"
    await unload_adapter(http, engine, "bot")
    assert await list_adapters(http, "vllm", engine) == {}
    with pytest.raises(AdapterError, match="cannot be found"):
        await unload_adapter(http, engine, "bot")
