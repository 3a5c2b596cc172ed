"""LoRA adapters come and go while the engine runs, with vLLM's calls, words and list."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from simulator_process import run_to_its_end, simulator
from simulator_server import CHAT, EMBEDDING, serving

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
BOT = {"lora_name": "bot", "lora_path": "acme/bot"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(is_lora_enabled=True, max_lora_rank=16) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        yield client


async def cards(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    answer = await client.get("/v1/models")
    return {card["id"]: card for card in answer.json()["data"]}


async def chat(client: httpx.AsyncClient, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return await client.post("/v1/chat/completions", json=body)


def adapter(folder: Path, rank: int) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return str(folder)


async def test_a_loaded_adapter_is_listed_below_its_model_and_answers(
    client: httpx.AsyncClient,
) -> None:
    assert (await chat(client, "bot")).status_code == 404
    answer = await client.post(LOAD, json=BOT)
    assert answer.status_code == 200
    assert answer.text == "Success: LoRA adapter 'bot' added successfully."
    card = (await cards(client))["bot"]
    assert (card["root"], card["parent"], card["max_model_len"]) == ("acme/bot", CHAT, None)
    answer = await chat(client, "bot")
    assert answer.status_code == 200
    assert answer.json()["model"] == "bot"


async def test_an_adapter_does_not_embed(client: httpx.AsyncClient) -> None:
    await client.post(LOAD, json=BOT)
    answer = await client.post("/v1/embeddings", json={"model": "bot", "input": "hi"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "The model does not support Embeddings API"
    assert list(await cards(client)) == [CHAT, EMBEDDING, "bot"]


async def test_an_unloaded_adapter_is_gone(client: httpx.AsyncClient) -> None:
    await client.post(LOAD, json=BOT)
    answer = await client.post(UNLOAD, json={"lora_name": "bot"})
    assert answer.status_code == 200
    assert answer.text == "Success: LoRA adapter 'bot' removed successfully."
    assert "bot" not in await cards(client)
    assert (await chat(client, "bot")).status_code == 404


async def test_an_adapter_takes_the_place_of_one_of_its_name_only_if_told_so(
    client: httpx.AsyncClient,
) -> None:
    await client.post(LOAD, json=BOT)
    other = {**BOT, "lora_path": "acme/bot-2"}
    answer = await client.post(LOAD, json=other)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "InvalidUserInput"
    assert "has already been loaded" in answer.json()["error"]["message"]
    assert (await cards(client))["bot"]["root"] == "acme/bot"
    assert (await client.post(LOAD, json={**other, "load_inplace": True})).status_code == 200
    assert (await cards(client))["bot"]["root"] == "acme/bot-2"


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "words"),
    [
        (LOAD, {"lora_name": "", "lora_path": "a/b"}, 400, "InvalidUserInput", "must be provided"),
        (LOAD, {"lora_name": "bot"}, 400, "BadRequestError", "lora_path"),
        (
            LOAD,
            {"lora_name": "bot", "lora_path": "/no/such/folder"},
            404,
            "NotFoundError",
            "Loading lora bot failed: No adapter found for /no/such/folder",
        ),
        (UNLOAD, {"lora_name": ""}, 400, "InvalidUserInput", "needs to be provided"),
        (UNLOAD, {"lora_name": "bot"}, 404, "NotFoundError", "'bot' cannot be found"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_vllms_words(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], status: int, kind: str, words: str
) -> None:
    answer = await client.post(path, json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == (kind, status)
    assert words in error["message"]


async def test_a_rank_that_there_is_no_room_for_is_refused(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    small, large = adapter(tmp_path / "small", 16), adapter(tmp_path / "large", 64)
    assert (await client.post(LOAD, json={**BOT, "lora_path": small})).status_code == 200
    answer = await client.post(LOAD, json={"lora_name": "large", "lora_path": large})
    assert answer.status_code == 500
    words = "LoRA rank 64 is greater than max_lora_rank 16."
    assert answer.json()["error"]["message"] == words
    assert "large" not in await cards(client)


async def test_the_calls_are_there_only_where_adapters_are_enabled() -> None:
    async with serving() as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.post(LOAD, json=BOT)).status_code == 404
        assert (await client.post(UNLOAD, json=BOT)).status_code == 404


async def test_an_engine_starts_with_adapters(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "bot", 8)
    arguments = ("--model=m", "--enable-lora", "--lora-modules", f"bot={folder}", "other=a/b")
    async with simulator(*arguments) as url, httpx.AsyncClient(base_url=url) as client:
        found = {name: card["root"] for name, card in (await cards(client)).items()}
    assert found == {"m": "m", "bot": folder, "other": "a/b"}


async def test_an_engine_does_not_start_without_an_adapter_that_it_should_have() -> None:
    code, errors = await run_to_its_end("--port=0", "--model=m", "--lora-modules", "bot=/no/bot")
    assert code == 1
    last = errors.strip().splitlines()[-1]
    assert last == (
        "sagepool-simulator: Loading lora bot failed: No adapter found for /no/bot: "
        "correct --lora-modules"
    )
