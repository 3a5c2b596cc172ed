"""Listing, loading and unloading adapters, on the simulator and on engines that misbehave."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sagepool_engines.adapters import AdapterError, list_adapters, load_adapter, unload_adapter
from simulator_server import serving

URL = "http://engine:8000"


@pytest.fixture
async def engine() -> AsyncIterator[str]:
    async with serving(is_lora_enabled=True) as url:
        yield url


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


async def load(client: httpx.AsyncClient, url: str, path: str, *, in_place: bool = False) -> None:
    await load_adapter(client, url, "bot", path, in_place=in_place, limit_s=5.0)


async def test_adapters_come_are_replaced_and_go(client: httpx.AsyncClient, engine: str) -> None:
    assert await list_adapters(client, "simulator", engine) == {}
    await load(client, engine, "acme/bot")
    assert await list_adapters(client, "simulator", engine) == {"bot": "acme/bot"}
    await load(client, engine, "acme/bot-2", in_place=True)
    assert await list_adapters(client, "simulator", engine) == {"bot": "acme/bot-2"}
    await unload_adapter(client, engine, "bot")
    assert await list_adapters(client, "simulator", engine) == {}


async def test_what_an_engine_refuses_is_told_in_its_words(
    client: httpx.AsyncClient, engine: str, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match="engine says: Loading lora bot failed: No adapter"):
        await load(client, engine, str(tmp_path))
    with pytest.raises(AdapterError, match="engine says: The lora adapter 'bot' cannot be found"):
        await unload_adapter(client, engine, "bot")
    await load(client, engine, "acme/bot")
    with pytest.raises(AdapterError, match="engine says: The lora adapter 'bot' has already been"):
        await load(client, engine, "acme/bot")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(404), "the engine answers 404 to /v1/load_lora_adapter"),
        (httpx.Response(502, text="<html>"), "the engine answers 502"),
        (httpx.Response(500, json={"error": "dead"}), "the engine answers 500"),
        (httpx.Response(500, json={"error": {"message": "out\n of  memory"}}), "says: out of mem"),
        (httpx.ReadTimeout(""), "does not answer in time"),
        (httpx.ConnectError("refused"), "cannot be reached: refused"),
        (httpx.RemoteProtocolError(""), "cannot be reached: RemoteProtocolError"),
    ],
)
async def test_every_way_to_fail_has_words(answer: Any, words: str) -> None:
    def reply(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx.Response)
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(reply)) as client:
        with pytest.raises(AdapterError, match=words):
            await load(client, URL, "acme/bot")


@pytest.mark.parametrize("page", ["<html>", '{"data": 3}', "[]"])
async def test_a_list_that_is_none_is_told(page: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=page))
    async with httpx.AsyncClient(transport=transport) as client:
        with pytest.raises(AdapterError, match="its list of models cannot be read"):
            await list_adapters(client, "vllm", URL)


async def test_a_slow_load_has_a_limit(client: httpx.AsyncClient) -> None:
    given: list[object] = []

    def reply(request: httpx.Request) -> httpx.Response:
        given.append(request.extensions["timeout"]["read"])
        return httpx.Response(200)

    async with httpx.AsyncClient(transport=httpx.MockTransport(reply)) as client:
        await load(client, URL, "acme/bot")
    assert given == [5.0]
