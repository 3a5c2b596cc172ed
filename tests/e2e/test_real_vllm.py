"""A pool on vLLM itself: a chat model and the real MiniLM in one pod, fetched from a hub."""

import asyncio
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import openai
import pytest

from e2e_endpoint import reach_router
from e2e_installation import Installation
from e2e_pods import serve_in_pod
from e2e_pool import Pool, build_pool
from real_engine_image import load_engine_image
from real_engines import Engines
from real_models import CHAT, EMBEDDING, make_models
from sagepool_cluster.provider import Provider
from sagepool_crds import names

pytestmark = pytest.mark.engines

ADAPTER: Final = "tests/bot"
START_LIMIT_S: Final = 900
HUB: Final = """
import sys
from pathlib import Path
sys.path.insert(0, "/srv")
from model_hub import HubModel, ModelHub
models = {}
for config in Path("/data").glob("*/*/*config.json"):
    folder = config.parent
    files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    models[str(folder.relative_to("/data"))] = HubModel(files)
ModelHub(models, ("0.0.0.0", 8080)).serve_forever()
"""
MESSAGES: Final[list[Any]] = [{"role": "user", "content": "hello"}]
KILL: Final = """
import os, signal
from pathlib import Path
for place in Path("/proc").glob("[0-9]*"):
    words = (place / "cmdline").read_bytes().split(bytes(1))
    if b"serve" in words and b"--runner=pooling" not in words:
        os.kill(int(place.name), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def engine_image(engines: Engines, provider: Provider) -> str:
    return load_engine_image(engines, provider)


@pytest.fixture(scope="module")
def hub_folder(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and an adapter by their names on the hub."""
    made = make_models(engines, tmp_path_factory.mktemp("cache"))
    folder = tmp_path_factory.mktemp("hub")
    for name, source in {**made.folders, ADAPTER: made.adapter}.items():
        shutil.copytree(source, folder / name)
    return folder


@pytest.fixture
def hub(own_pool: Pool, image: str, hub_folder: Path) -> str:
    """Its address in the namespace of the pool."""
    return serve_in_pod(own_pool.kubectl, image, "hub", "model_hub.py", HUB, data=hub_folder)


@pytest.fixture
def served(
    installation: Installation,
    own_pool: Pool,
    engine_image: str,
    volume: str,
    hub: str,
) -> Iterator[Pool]:
    """A pool that serves both models from its cache, and an adapter of the hub."""
    variables = {
        "HF_ENDPOINT": hub,
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    group = {
        "name": "both",
        "role": "llm_embedding",
        "engine": {
            "type": "vllm",
            "image": engine_image,
            "args": ["--enforce-eager", "--max-model-len=2048", "--max-num-seqs=4"],
            "embeddingArgs": ["--enforce-eager"],
            "env": [{"name": name, "value": value} for name, value in variables.items()],
        },
        "model": {"name": "chat", "uri": f"hf://{CHAT}"},
        "embeddingModel": {"name": "text", "uri": f"hf://{EMBEDDING}"},
        "adapters": [{"name": "bot", "uri": f"hf://{ADAPTER}"}],
        "lora": {"maxRank": 8},
        "replicas": 1,
    }
    cache = {"type": "pvc", "size": "1Gi", "storageClassName": volume}
    setting = "operator.extraEnv[0]"
    installation.install(f"{setting}.name=SAGEPOOL_OPERATOR_HUB", f"{setting}.value={hub}")
    try:
        own_pool.apply(build_pool(group, cache=cache))
        own_pool.wait_ready(START_LIMIT_S)
        yield own_pool
    finally:
        installation.install()


def embedding_url(pool: Pool) -> str:
    """The address of the process for embeddings, past the router."""
    (instance,) = pool.instances().values()
    return next(str(e["url"]) for e in instance["spec"]["endpoints"] if e["role"] == "embedding")


def client_of(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)


def say(client: httpx.Client, model: str) -> str:
    body = {"model": model, "messages": MESSAGES, "temperature": 0, "max_tokens": 40}
    answer = client.post("/v1/chat/completions", json={**body, "ignore_eos": True})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


async def streamed(url: str) -> list[str]:
    async with client_of(url) as client:
        stream = await client.chat.completions.create(
            model="chat",
            messages=MESSAGES,
            stream=True,
            max_tokens=100,
            extra_body={"ignore_eos": True},
        )
        return [c.choices[0].delta.content or "" async for c in stream if c.choices]


async def embedded(url: str, texts: list[str]) -> list[list[float]]:
    """Each text in a call of its own, all at once."""
    async with client_of(url) as client:
        calls = (client.embeddings.create(model="text", input=text) for text in texts)
        return [answer.data[0].embedding for answer in await asyncio.gather(*calls)]


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def restarts(pool: Pool) -> int:
    (engine,) = pool.engines().values()
    statuses = engine["status"]["containerStatuses"]
    return next(int(s["restartCount"]) for s in statuses if s["name"] == "engine")


@pytest.mark.timeout(2400)
def test_a_pod_serves_both_models_and_an_adapter_and_comes_back_from_a_kill(served: Pool) -> None:
    pool = served
    (instance,) = pool.instances().values()
    assert {e["role"] for e in instance["spec"]["endpoints"]} == {"llm", "embedding"}
    assert pool.condition(names.MODELS_CACHED)["status"] == "True"
    with reach_router(pool.kubectl, pool.name) as url, httpx.Client(base_url=url) as client:
        client.timeout = httpx.Timeout(120)
        assert len(asyncio.run(streamed(url))) > 20

        texts = [f"text {n} of a quiet library on a hill" for n in range(24)]
        ours = asyncio.run(embedded(url, texts))
        theirs = asyncio.run(embedded(embedding_url(pool), texts))
        assert min(map(cosine, ours, theirs)) > 0.9999

        pool.wait(lambda: pool.condition(names.ADAPTERS_LOADED).get("status") == "True", "no bot")
        assert say(client, "bot") != say(client, "chat")

        long = {"model": "chat", "messages": [{"role": "user", "content": "a " * 3000}]}
        refused = client.post("/v1/chat/completions", json=long)
        assert refused.status_code == 400
        assert "maximum context length" in refused.json()["error"]["message"]

        assert ends_with_an_error(client, pool)
        pool.wait(lambda: restarts(pool) == 1, "the container is not started again")
        pool.wait_ready(START_LIMIT_S)
        assert say(client, "chat")
        assert len(asyncio.run(embedded(url, texts[:2]))) == 2


def ends_with_an_error(client: httpx.Client, pool: Pool) -> bool:
    """Whether a stream tells that the engine was killed in its middle."""
    body = {"model": "chat", "messages": MESSAGES, "stream": True, "max_tokens": 2000}
    lines = []
    with client.stream("POST", "/v1/chat/completions", json={**body, "ignore_eos": True}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                lines.append(line)
            if len(lines) == 5:
                (engine,) = pool.engines()
                pool.kubectl.run("exec", engine, "-c", "engine", "--", "python3", "-c", KILL)
                lines.append("")
    return '"error"' in lines[-1] and len(lines) < 2000
