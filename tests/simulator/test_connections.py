"""Connections behave as a careful server's do, whatever the client does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sagepool_simulator.settings import Pace
from simulator_server import CHAT, serving

LIMIT_S = 10.0
SLOW = Pace(first_token_s=600.0)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(LIMIT_S):
            yield reader, writer
    finally:
        writer.close()


def build_post(body: dict[str, object], path: str = "/v1/completions") -> bytes:
    content = json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (
        path.encode(),
        len(content),
        content,
    )


GET = b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", b"400"),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, b"431"),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 200_000, b"431"),
        (b"GET /" + b"a" * 200_000, b"431"),
    ],
    ids=[
        "nonsense",
        "two lengths",
        "length and chunks",
        "many fields",
        "long field",
        "long target",
    ],
)
async def test_broken_http_is_answered_and_ends_the_connection(sent: bytes, status: bytes) -> None:
    async with serving() as url, connected(url) as (reader, writer):
        writer.write(sent)
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in answer


async def test_a_body_over_the_limit_is_refused_after_it_was_read() -> None:
    async with serving(max_body_bytes=1000) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/v1/completions", content=b"x" * 5_000_000)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as url, connected(url) as (reader, writer):
        writer.write(GET * 1000 + b"GET /last HTTP/1.1\r\nconnection: close\r\n\r\n")
        answers = await reader.read()
    assert answers.count(b"HTTP/1.1 200") == 1000
    assert answers.rpartition(b"HTTP/1.1 ")[2].startswith(b"404")


async def test_a_request_may_arrive_byte_by_byte() -> None:
    request = build_post({"model": CHAT, "prompt": "a", "max_tokens": 1})
    async with serving() as url, connected(url) as (reader, writer):
        for byte in request:
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_a_client_that_waits_for_leave_to_send_gets_it() -> None:
    async with serving() as url, connected(url) as (reader, writer):
        writer.write(
            b"POST /tokenize HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 14\r\n\r\n"
        )
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        writer.write(b'{"prompt":"a"}')
        await reader.readline()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_an_old_client_gets_its_connection_closed() -> None:
    async with serving() as url, connected(url) as (reader, writer):
        writer.write(b"GET /version HTTP/1.0\r\n\r\n")
        assert b"connection: close" in await reader.read()


async def read_gauge(client: httpx.AsyncClient, name: str) -> float:
    page = (await client.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(page)}
    return families[name].samples[0].value


async def wait_for_gauge(client: httpx.AsyncClient, name: str, value: float) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await read_gauge(client, name) != value:  # noqa: ASYNC110  # it is elsewhere
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("streams", [True, False])
async def test_a_client_that_leaves_frees_its_place(streams: bool) -> None:
    request = build_post({"model": CHAT, "prompt": "a", "stream": streams})
    async with (
        serving(pace=SLOW, max_num_seqs=1) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        async with connected(url) as (_, running), connected(url) as (_, waiting):
            running.write(request)
            await wait_for_gauge(client, "vllm:num_requests_running", 1)
            waiting.write(request)
            await wait_for_gauge(client, "vllm:num_requests_waiting", 1)
            assert await read_gauge(client, "vllm:kv_cache_usage_perc") > 0
        await wait_for_gauge(client, "vllm:num_requests_waiting", 0)
        await wait_for_gauge(client, "vllm:num_requests_running", 0)
        assert await read_gauge(client, "vllm:kv_cache_usage_perc") == 0


async def test_metrics_have_vllms_names_and_labels() -> None:
    body = {"model": CHAT, "prompt": "one two three", "max_tokens": 4}
    async with serving() as url, httpx.AsyncClient(base_url=url) as client:
        await client.post("/v1/completions", json=body)
        page = (await client.get("/metrics")).text
    samples = {
        (sample.name, sample.labels.get("finished_reason")): sample
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if "le" not in sample.labels
    }
    expected = {
        "vllm:num_requests_running": 0,
        "vllm:num_requests_waiting": 0,
        "vllm:kv_cache_usage_perc": 0,
        "vllm:prefix_cache_queries_total": 3,
        "vllm:prefix_cache_hits_total": 0,
        "vllm:prompt_tokens_total": 3,
        "vllm:generation_tokens_total": 4,
        "vllm:time_to_first_token_seconds_count": 1,
        "vllm:e2e_request_latency_seconds_count": 1,
    }
    assert {name: samples[name, None].value for name in expected} == expected
    assert samples["vllm:request_success_total", "length"].value == 1
    assert {sample.labels["model_name"] for sample in samples.values()} == {CHAT}
    assert {sample.labels["engine"] for sample in samples.values()} == {"0"}


async def test_a_models_name_may_have_any_character() -> None:
    async with (
        serving(models=(('a"b\\c', "llm"),)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        page = (await client.get("/metrics")).text
    family = next(iter(text_string_to_metric_families(page)))
    assert family.samples[0].labels["model_name"] == 'a"b\\c'
