"""Each fault does what it says, to the requests that it names, as often as it says."""

import asyncio
import json
import math
from typing import Any

import httpx
import pytest

from sagepool_simulator.faults import Fault, FaultPlan, Kind
from sagepool_simulator.settings import Pace
from simulator_server import CHAT, EMBEDDING, serving

CHAT_BODY = {"model": CHAT, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
STREAM_BODY = {**CHAT_BODY, "stream": True}
EMBED_BODY = {"model": EMBEDDING, "input": "some text"}
LONG_S = 600.0


async def post_chat(url: str, body: dict[str, Any] = CHAT_BODY) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url) as client:
        return await client.post("/v1/chat/completions", json=body)


async def post_embedding(url: str) -> list[float]:
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/v1/embeddings", json=EMBED_BODY)
    vector: list[float] = answer.json()["data"][0]["embedding"]
    return vector


async def read_chunks(url: str) -> tuple[list[str], httpx.HTTPError | None]:
    """The events of a stream until it ends or breaks, and how it broke."""
    events: list[str] = []
    async with (
        httpx.AsyncClient(base_url=url) as client,
        client.stream("POST", "/v1/chat/completions", json=STREAM_BODY) as answer,
    ):
        assert answer.status_code == 200
        try:
            async for line in answer.aiter_lines():
                events += [line] if line else []
        except httpx.HTTPError as error:
            return events, error
    return events, None


async def test_status_answers_with_an_error_in_vllms_form() -> None:
    async with serving(Fault(kind="status", status=503, count=2)) as url:
        answers = [await post_chat(url) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].json()["error"]["code"] == 503


async def test_reset_breaks_the_connection_before_the_head() -> None:
    async with serving(Fault(kind="reset", count=1)) as url:
        with pytest.raises(httpx.ReadError):
            await post_chat(url)
        assert (await post_chat(url)).status_code == 200


async def test_stall_answers_after_its_time() -> None:
    async with serving(Fault(kind="stall", seconds=0.05, count=1)) as url:
        started = asyncio.get_running_loop().time()
        assert (await post_chat(url)).status_code == 200
        assert asyncio.get_running_loop().time() - started >= 0.05


async def test_a_stalled_bad_request_is_refused_in_the_end() -> None:
    async with serving(Fault(kind="stall", seconds=0.01, count=1)) as url:
        assert (await post_chat(url, {**CHAT_BODY, "n": 0})).status_code == 400


async def test_a_client_may_leave_while_it_is_stalled() -> None:
    async with serving(Fault(kind="stall", seconds=LONG_S, count=1)) as url:
        async with httpx.AsyncClient(base_url=url, timeout=0.05) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/v1/chat/completions", json=CHAT_BODY)
        assert (await post_chat(url)).status_code == 200


@pytest.mark.parametrize("pace", [Pace(), Pace(inter_token_s=0.001)], ids=["instant", "paced"])
async def test_reset_stream_breaks_it_after_so_many_chunks(pace: Pace) -> None:
    fault = Fault(kind="reset_stream", after_chunks=3, count=1)
    async with serving(fault, pace=pace) as url:
        events, error = await read_chunks(url)
        assert len(events) == 3
        assert error is not None
        assert (await read_chunks(url))[1] is None


@pytest.mark.parametrize("pace", [Pace(), Pace(inter_token_s=0.001)], ids=["instant", "paced"])
async def test_stall_stream_interrupts_it_and_loses_nothing(pace: Pace) -> None:
    fault = Fault(kind="stall_stream", after_chunks=2, seconds=0.05, count=1)
    async with serving(fault, pace=pace) as url:
        stalled, _ = await read_chunks(url)
        plain, _ = await read_chunks(url)
    assert [read_text(event) for event in stalled] == [read_text(event) for event in plain]
    assert stalled[-1] == "data: [DONE]"


def read_text(event: str) -> str:
    if event == "data: [DONE]":
        return event
    return str(json.loads(event.removeprefix("data: "))["choices"])


async def test_error_frame_begins_a_stream_with_an_error() -> None:
    async with serving(Fault(kind="error_frame", status=500, count=1)) as url:
        events, error = await read_chunks(url)
    assert error is None
    assert json.loads(events[0].removeprefix("data: "))["error"]["code"] == 500
    assert events[1:] == ["data: [DONE]"]


async def test_wrong_dimension_makes_vectors_one_longer() -> None:
    async with serving(Fault(kind="wrong_dimension", count=1)) as url:
        assert [len(await post_embedding(url)) for _ in range(2)] == [33, 32]


async def test_not_normalised_makes_vectors_of_length_two() -> None:
    async with serving(Fault(kind="not_normalised", count=1)) as url:
        assert math.hypot(*await post_embedding(url)) == pytest.approx(2.0)
        assert math.hypot(*await post_embedding(url)) == pytest.approx(1.0)


async def test_unhealthy_fails_health_checks_alone() -> None:
    async with (
        serving(Fault(kind="unhealthy", count=2)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        assert (await post_chat(url)).status_code == 200
        checks = [(await client.get("/health")).status_code for _ in range(3)]
    assert checks == [503, 503, 200]


async def test_close_ends_the_connection_without_saying_so() -> None:
    async with serving(Fault(kind="close", count=1)) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        content = json.dumps(CHAT_BODY).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b"
            % (len(content), content)
        )
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" not in answer.lower()


async def test_faults_are_commanded_over_http() -> None:
    async with serving() as url, httpx.AsyncClient(base_url=url) as client:
        path = "/simulator/faults"
        added = await client.post(path, json={"kind": "status", "status": 500})
        assert added.status_code == 200
        await client.post(path, json=[{"kind": "stall"}, {"kind": "reset", "count": 2}])
        listed = (await client.get(path)).json()
        assert [fault["kind"] for fault in listed] == ["status", "stall", "reset"]
        assert (await post_chat(url)).status_code == 500
        assert (await client.delete(path)).json() == []
        assert (await post_chat(url)).status_code == 200
        assert (await client.put(path)).status_code == 405


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"kind": "explode"}, "explode"),
        ({"kind": "status", "share": 0}, "share must be above 0"),
        ({"kind": "status", "count": 0}, "count must be at least 1"),
        ({"kind": "status", "status": 200}, "status must be from 400"),
        ({"kind": "stall", "seconds": -1}, "seconds must be from 0"),
        ({"kind": "reset_stream", "after_chunks": -1}, "after_chunks must be from 0"),
        ({"kind": "status", "satus": 500}, "satus"),
        ({}, "kind"),
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused(body: dict[str, Any], words: str) -> None:
    async with serving() as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/simulator/faults", json=body)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]
        assert (await client.get("/simulator/faults")).json() == []


def build_plan(*faults: Fault, random: float = 0.0) -> FaultPlan:
    return FaultPlan(lambda: random, faults)


def test_a_fault_meets_only_its_role_and_path() -> None:
    plan = build_plan(
        Fault(kind="status", role="embedding"), Fault(kind="reset", path="/v1/completions")
    )
    drawn = [
        plan.draw(path, role, is_stream=False, is_vector=False)
        for path, role in (
            ("/v1/chat/completions", "llm"),
            ("/v1/completions", "llm"),
            ("/v1/embeddings", "embedding"),
        )
    ]
    assert [fault and fault.kind for fault in drawn] == [None, "reset", "status"]


@pytest.mark.parametrize(
    ("kind", "is_stream", "is_vector"),
    [
        ("reset_stream", True, False),
        ("stall_stream", True, False),
        ("error_frame", True, False),
        ("wrong_dimension", False, True),
        ("not_normalised", False, True),
    ],
)
def test_a_fault_is_not_used_up_by_requests_that_it_cannot_change(
    kind: Kind, is_stream: bool, is_vector: bool
) -> None:
    plan = build_plan(Fault(kind=kind, count=1))
    assert plan.draw("/", None, is_stream=not is_stream, is_vector=not is_vector) is None
    assert plan.draw("/", None, is_stream=is_stream, is_vector=is_vector) is not None
    assert plan.faults == []


@pytest.mark.parametrize(("random", "is_hit"), [(0.29, True), (0.3, False), (0.99, False)])
def test_a_fault_hits_its_share_of_the_requests(random: float, is_hit: bool) -> None:
    plan = build_plan(Fault(kind="status", share=0.3), random=random)
    drawn = plan.draw("/", None, is_stream=False, is_vector=False)
    assert (drawn is not None) == is_hit
