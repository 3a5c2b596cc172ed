"""The sidecar over sockets, beside a simulator."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from sagepool_engines.dialects import DIALECTS
from sagepool_sidecar.cli import main
from sidecar_process import sidecar
from simulator_process import simulator

LIMIT_S = 30.0


def metric_flags() -> list[str]:
    dialect = DIALECTS["simulator"]
    flags = {
        "--running": dialect.running_metrics,
        "--waiting": dialect.waiting_metrics,
        "--usage": dialect.usage_metrics,
        "--progress": dialect.progress_metrics,
    }
    return [f"{flag}={name}" for flag, names in flags.items() for name in names]


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@asynccontextmanager
async def beside(*urls: str, flags: tuple[str, ...] = ()) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a sidecar whose engines are at `urls`."""
    ports = [f"--engine-port={port_of(url)}" for url in urls]
    async with (
        sidecar(*ports, *metric_flags(), *flags) as (_, own_url),
        httpx.AsyncClient(base_url=own_url, timeout=LIMIT_S) as client,
    ):
        yield client


async def until_running(client: httpx.AsyncClient, count: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            if (await client.get("/load")).json()["running"] == count:
                return
            await asyncio.sleep(0.05)


def chat(tokens: int) -> dict[str, Any]:
    message = {"role": "user", "content": "hello"}
    return {"model": "m", "messages": [message], "max_tokens": tokens, "ignore_eos": True}


async def test_the_load_is_the_engines() -> None:
    async with (
        simulator("--model=m", "--itl-ms=100") as url,
        beside(url) as client,
        httpx.AsyncClient(base_url=url, timeout=LIMIT_S) as engine,
    ):
        figures = {"running": 0, "waiting": 0, "kvCacheUsage": 0.0}
        assert (await client.get("/load")).json() == {
            **figures,
            "engines": [{"port": port_of(url), **figures}],
        }
        request = asyncio.create_task(engine.post("/v1/chat/completions", json=chat(10)))
        await until_running(client, 1)
        assert (await request).status_code == 200


async def test_a_drain_answers_when_the_last_stream_has_ended() -> None:
    async with (
        simulator("--model=m", "--itl-ms=100") as url,
        beside(url) as client,
        httpx.AsyncClient(base_url=url, timeout=LIMIT_S) as engine,
    ):
        request = asyncio.create_task(engine.post("/v1/chat/completions", json=chat(30)))
        await until_running(client, 1)
        drained = asyncio.create_task(client.get("/drain"))
        answer = await request
        assert answer.status_code == 200
        assert not drained.done()
        assert (await drained).json() == {"outcome": "idle"}


async def test_the_load_of_two_engines_is_told_of_each_and_of_both() -> None:
    async with (
        simulator("--model=m", "--itl-ms=100") as chat_url,
        simulator("--model=e=embedding") as embedding_url,
        beside(chat_url, embedding_url) as client,
        httpx.AsyncClient(base_url=chat_url, timeout=LIMIT_S) as engine,
    ):
        request = asyncio.create_task(engine.post("/v1/chat/completions", json=chat(30)))
        await until_running(client, 1)
        told = (await client.get("/load")).json()["engines"]
        assert [(one["port"], one["running"]) for one in told] == [
            (port_of(chat_url), 1),
            (port_of(embedding_url), 0),
        ]
        assert (await request).status_code == 200


async def test_the_load_of_one_engine_is_not_told_as_that_of_two() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = server.getsockname()[1]
    async with simulator("--model=m") as url, beside(url, f"http://127.0.0.1:{gone}") as client:
        answer = await client.get("/load")
        assert answer.status_code == 503
        assert f"the engine on port {gone} cannot be read: refused" in answer.json()["error"]


async def test_a_drain_waits_for_the_last_engine_of_the_pod() -> None:
    async with (
        simulator("--model=e=embedding") as embedding_url,
        simulator("--model=m", "--itl-ms=100") as chat_url,
        # The one that is idle from the beginning comes first.
        beside(embedding_url, chat_url) as client,
        httpx.AsyncClient(base_url=chat_url, timeout=LIMIT_S) as engine,
    ):
        request = asyncio.create_task(engine.post("/v1/chat/completions", json=chat(80)))
        await until_running(client, 1)
        drained = asyncio.create_task(client.get("/drain"))
        assert (await request).status_code == 200
        assert not drained.done()
        assert (await drained).json() == {"outcome": "idle"}


async def test_a_drain_gives_up_after_its_limit() -> None:
    async with (
        simulator("--model=m", "--itl-ms=1000") as url,
        beside(url, flags=("--drain-seconds=1",)) as client,
        httpx.AsyncClient(base_url=url, timeout=LIMIT_S) as engine,
    ):
        request = asyncio.create_task(engine.post("/v1/chat/completions", json=chat(100)))
        await until_running(client, 1)
        assert (await client.get("/drain")).json() == {"outcome": "time is over"}
        request.cancel()


async def test_an_engine_that_is_gone_has_no_load_and_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with beside(f"http://127.0.0.1:{port}") as client:
        answer = await client.get("/load")
        assert answer.status_code == 503
        assert "refused" in answer.json()["error"]
        assert (await client.get("/drain")).json() == {"outcome": "gone"}


async def test_an_engine_without_metrics_has_no_load() -> None:
    async with (
        simulator("--model=m") as url,
        beside(url, flags=("--metrics-path=/none",)) as client,
    ):
        answer = await client.get("/load")
        assert answer.status_code == 503
        assert "silent" in answer.json()["error"]


async def test_health_says_nothing_of_the_engine_and_other_paths_name_those_there_are() -> None:
    async with beside("http://127.0.0.1:1") as client:
        assert (await client.get("/health")).status_code == 200
        answer = await client.get("/metrics")
        assert answer.status_code == 404
        assert "/drain" in answer.json()["error"]


async def test_sigterm_ends_it_at_once_also_while_a_drain_waits() -> None:
    async with (
        simulator("--model=m") as url,
        sidecar(f"--engine-port={url.rpartition(':')[2]}") as (process, own_url),
        httpx.AsyncClient(base_url=own_url, timeout=LIMIT_S) as client,
    ):
        drained = asyncio.create_task(client.get("/drain"))
        assert process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            assert b"leaving" in await process.stderr.readline()
        process.terminate()
        async with asyncio.timeout(3):
            assert await process.wait() == 0
        drained.cancel()


def test_a_busy_port_is_one_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--host=127.0.0.1", f"--port={port}"]) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--port=-1", "whole number from 0 to 65535"),
        ("--engine-port=70000", "whole number from 0 to 65535"),
        ("--drain-seconds=0", "above 0"),
        ("--drain-seconds=soon", "write seconds"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_code_2(
    argument: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([argument])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]
