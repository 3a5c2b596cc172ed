"""The program: what it refuses to start with, how it loads, and how it stops."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest

from sagepool_simulator.cli import main
from simulator_process import read_url, run_to_its_end, simulator, start_simulator, stop_simulator

LIMIT_S = 20.0
CHAT_BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--model"),
        (("--model", "m=other"), "write NAME, NAME=llm or NAME=embedding"),
        (("--model", "m", "--port", "-1"), "whole number from 0"),
        (("--model", "m", "--port", "70000"), "whole number from 0 to 65535"),
        (("--model", "m", "--dimension", "0"), "whole number from 1"),
        (("--model", "m", "--ttft-ms", "-1"), "not negative"),
        (("--model", "m", "--itl-ms", "nan"), "not negative"),
        (("--model", "m", "--fault", "{"), "--fault"),
        (("--model", "m", "--fault", '{"kind":"explode"}'), "explode"),
        (("--model", "m", "--fault", '{"kind":"status","count":0}'), "count must be at least 1"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in last


async def test_a_busy_port_is_one_sentence_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, errors = await run_to_its_end("--host=127.0.0.1", f"--port={port}", "--model=m")
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in errors
    assert "choose another --port" in errors


async def test_a_fault_may_be_there_from_the_start() -> None:
    fault = '{"kind":"status","status":503,"count":1}'
    async with (
        simulator("--model=m", f"--fault={fault}") as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        answers = [await client.post("/v1/chat/completions", json=CHAT_BODY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 200]


async def test_a_crash_ends_the_process_with_status_1() -> None:
    process = await start_simulator("--model=m", '--fault={"kind":"crash"}')
    try:
        async with httpx.AsyncClient(base_url=await read_url(process)) as client:
            with pytest.raises(httpx.HTTPError):
                await client.post("/v1/chat/completions", json=CHAT_BODY)
        async with asyncio.timeout(LIMIT_S):
            assert await process.wait() == 1
    finally:
        await stop_simulator(process)


async def test_nothing_listens_while_it_loads() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await start_simulator("--model=m", f"--port={port}", "--load-seconds=1")
    try:
        refused = 0
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    try:
                        answer = await client.get("/health")
                        break
                    except httpx.ConnectError:
                        refused += 1
                        await asyncio.sleep(0.01)
        assert refused > 0
        assert answer.status_code == 200
    finally:
        assert await stop_simulator(process) == 0


async def test_it_may_be_stopped_while_it_loads() -> None:
    process = await start_simulator("--model=m", "--load-seconds=600")
    await wait_until_it_catches_signals(process.pid)
    assert await stop_simulator(process) == 0


async def wait_until_it_catches_signals(pid: int) -> None:
    bit = 1 << (signal.SIGTERM - 1)
    async with asyncio.timeout(LIMIT_S):
        while True:
            if read_caught_signals(pid) & bit:
                return
            await asyncio.sleep(0.01)


def read_caught_signals(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("SigCgt:")).split()[1], 16)


async def test_sigterm_lets_streams_finish_and_refuses_new_connections() -> None:
    process = await start_simulator("--model=m", "--itl-ms=20", "--default-max-tokens=25")
    try:
        url = await read_url(process)
        async with (
            httpx.AsyncClient(base_url=url) as idle,
            httpx.AsyncClient(base_url=url) as client,
        ):
            await idle.get("/health")
            body = {**CHAT_BODY, "stream": True}
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                lines = answer.aiter_lines()
                events = [await anext(lines)]
                process.terminate()
                events += [line async for line in lines if line]
            with pytest.raises(httpx.HTTPError):
                await idle.get("/health")
        assert events[-1] == "data: [DONE]"
        assert sum('"content":' in event for event in events) == 1 + 25
        assert json.loads(events[-2].removeprefix("data: "))["choices"][0]["finish_reason"]
        async with asyncio.timeout(LIMIT_S):
            assert await process.wait() == 0
    finally:
        await stop_simulator(process)


async def test_streams_that_go_on_for_too_long_after_sigterm_are_broken() -> None:
    process = await start_simulator("--model=m", "--ttft-ms=600000", "--shutdown-timeout=0.1")
    try:
        async with httpx.AsyncClient(base_url=await read_url(process), timeout=LIMIT_S) as client:
            body = {**CHAT_BODY, "stream": True}
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                os.kill(process.pid, signal.SIGTERM)
                with pytest.raises(httpx.HTTPError):
                    await answer.aread()
        async with asyncio.timeout(LIMIT_S):
            assert await process.wait() == 0
    finally:
        await stop_simulator(process)
