"""What vLLM's page of metrics says, read as our programs read it and beside them."""

import asyncio
from collections.abc import Callable

import httpx

from sagepool_engines.dialects import DIALECTS, EngineLoad, read_load


async def read_page(url: str) -> str:
    """The page."""
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(f"{url}/metrics")
    assert answer.status_code == 200, answer.text
    return answer.text


async def read_metrics(url: str) -> EngineLoad:
    """Its load in our dialect."""
    return read_load(DIALECTS["vllm"], await read_page(url))


async def until_load(url: str, claim: Callable[[EngineLoad], bool]) -> EngineLoad:
    """Ask until the load is as claimed."""
    async with asyncio.timeout(60):
        while not claim(load := await read_metrics(url)):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)
    return load


async def calls_of_embeddings(url: str) -> int:
    """How many the engine has answered."""
    name = 'http_requests_total{handler="/v1/embeddings",method="POST",status="2xx"} '
    found = [line for line in (await read_page(url)).splitlines() if line.startswith(name)]
    return sum(int(float(line.removeprefix(name))) for line in found)
