"""vLLM twice in one container, by the command line that a group of role llm_embedding gets."""

import asyncio
import math
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import yaml

from crd_objects import pool_object
from real_engine_process import EngineProcess
from real_engines import Engines
from real_models import CHAT, EMBEDDING, Models
from real_pair import Pair
from router_app_objects import named_instance
from router_process import file_router

pytestmark = [pytest.mark.engines, pytest.mark.timeout(2400)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "container.log"


@pytest.fixture
def container(pair: Pair, engines: Engines, models: Models, log: Path) -> Iterator[EngineProcess]:
    """Both of them; nothing else runs."""
    pair.stop()
    group = models.group("chat", "llm_embedding", CHAT, "--max-model-len=512", "--max-num-seqs=4")
    group["embeddingModel"] = {"name": "text", "uri": f"hf://{EMBEDDING}"}
    group["engine"]["embeddingArgs"] = ["--enforce-eager"]
    made = EngineProcess(engines, group, log)
    made.start()
    made.wait_until_healthy()
    yield made
    made.stop()


def write_pool(path: Path, container: EngineProcess) -> Path:
    chat, text = container.urls
    endpoints = [
        {"role": "llm", "url": chat, "models": ["chat"]},
        {"role": "embedding", "url": text, "models": ["text"]},
    ]
    documents = [
        pool_object(groups=[container.group]),
        named_instance("both", endpoints=endpoints),
    ]
    path.write_text(yaml.safe_dump_all(documents))
    return path


def client_of(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)


async def ask(container: EngineProcess, pool: Path) -> None:
    """See that a router gets from both what they should answer."""
    async with file_router(pool) as router:
        await router.until_instances(both=True)
        async with client_of(router.url) as client, client_of(container.urls[1]) as direct:
            stream = await client.chat.completions.create(
                model="chat",
                messages=[{"role": "user", "content": "hello"}],
                stream=True,
                max_tokens=100,
                extra_body={"ignore_eos": True},
            )
            parts = [c.choices[0].delta.content async for c in stream if c.choices]
            assert len(parts) > 20
            texts = ["rain fell on the quiet hills", "a small cat slept"]
            ours = await client.embeddings.create(model="text", input=texts)
            theirs = await direct.embeddings.create(model="text", input=texts)
        for a, b in zip(ours.data, theirs.data, strict=True):
            dot = sum(x * y for x, y in zip(a.embedding, b.embedding, strict=True))
            assert dot / (math.hypot(*a.embedding) * math.hypot(*b.embedding)) > 0.9999


def test_they_load_in_order_answer_as_one_instance_and_end_together(
    container: EngineProcess, log: Path, tmp_path: Path
) -> None:
    lines = log.read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("embedding: "))
    assert any("Application startup complete" in line for line in lines[:first])
    asyncio.run(ask(container, write_pool(tmp_path / "pool.yaml", container)))
    container.kill_one("--runner=pooling")
    assert container.wait_until_ended() == 128 + signal.SIGKILL
    assert "embedding: it has ended with code 137" in log.read_text()
    for url in container.urls:
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")
