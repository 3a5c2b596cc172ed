"""Listing, loading and unloading adapters, on the simulator and on engines that misbehave."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine_answers import PlayedEngines
from sagepool_engines.adapters import AdapterError, list_adapters, load_adapter, unload_adapter
from sagepool_engines.http import EngineHttp
from sagepool_operator.engine_session import EngineSession
from sagepool_simulator.faults import Fault
from simulator_server import serving

URL = "http://engine:8000"


@pytest.fixture
async def engine() -> AsyncIterator[str]:
    async with serving(is_lora_enabled=True) as url:
        yield url


@pytest.fixture
async def http() -> AsyncIterator[EngineHttp]:
    async with aclosing(EngineSession(5.0)) as http:
        yield http


async def load(http: EngineHttp, url: str, path: str, *, in_place: bool = False) -> None:
    await load_adapter(http, url, "bot", path, in_place=in_place, limit_s=5.0)


async def test_adapters_come_are_replaced_and_go(http: EngineHttp, engine: str) -> None:
    assert await list_adapters(http, "simulator", engine) == {}
    await load(http, engine, "acme/bot")
    assert await list_adapters(http, "simulator", engine) == {"bot": "acme/bot"}
    await load(http, engine, "acme/bot-2", in_place=True)
    assert await list_adapters(http, "simulator", engine) == {"bot": "acme/bot-2"}
    await unload_adapter(http, engine, "bot")
    assert await list_adapters(http, "simulator", engine) == {}


async def test_what_an_engine_refuses_is_told_in_its_words(
    http: EngineHttp, engine: str, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match="engine says: Loading lora bot failed: No adapter"):
        await load(http, engine, str(tmp_path))
    with pytest.raises(AdapterError, match="engine says: The lora adapter 'bot' cannot be found"):
        await unload_adapter(http, engine, "bot")
    await load(http, engine, "acme/bot")
    with pytest.raises(AdapterError, match="engine says: The lora adapter 'bot' has already been"):
        await load(http, engine, "acme/bot")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(404), "the engine answers 404 to /v1/load_lora_adapter"),
        (httpx.Response(502, text="<html>"), "the engine answers 502"),
        (httpx.Response(500, json={"error": "dead"}), "the engine answers 500"),
        (httpx.Response(500, json={"error": {"message": "out\n of  memory"}}), "says: out of mem"),
        (httpx.ReadTimeout(""), "does not answer in time"),
        (httpx.ConnectError("refused"), "cannot be reached: refused"),
        (httpx.RemoteProtocolError("cut off"), "cannot be reached: cut off"),
    ],
)
async def test_every_way_to_fail_has_words(answer: Any, words: str) -> None:
    def reply(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx.Response)
        return answer

    with pytest.raises(AdapterError, match=words):
        await load(PlayedEngines(reply), URL, "acme/bot")


@pytest.mark.parametrize("page", ["<html>", '{"data": 3}', "[]"])
async def test_a_list_that_is_none_is_told(page: str) -> None:
    http = PlayedEngines(lambda _: httpx.Response(200, text=page))
    with pytest.raises(AdapterError, match="its list of models cannot be read"):
        await list_adapters(http, "vllm", URL)


async def test_a_load_has_a_limit_of_its_own(http: EngineHttp) -> None:
    stall = Fault(kind="stall", path="/v1/load_lora_adapter")
    async with serving(stall, is_lora_enabled=True) as url:
        with pytest.raises(AdapterError, match="does not answer in time"):
            await load_adapter(http, url, "bot", "acme/bot", in_place=False, limit_s=0.05)
