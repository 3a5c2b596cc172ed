"""Calls to engines over real sockets, in both ways: an answer, or the reason why there is none."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import Final, TypeAlias

import pytest

from kube_world import until
from sagepool_engines.http import Answer, EngineHttp, NotAnsweredError
from sagepool_operator.engine_session import EngineSession
from sagepool_router.sources.engine_http import EngineConnections

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """Yield the address; connections end with the block."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await serve(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


def saying(answer: bytes, *, then_close: bool = False) -> Serve:
    """An engine that answers each head it reads with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            head = await reader.readuntil(b"\r\n\r\n")
            assert head
            writer.write(answer)
            await writer.drain()
            if then_close:
                writer.close()
                return

    return serve


async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


Opens: TypeAlias = Callable[[float], AbstractAsyncContextManager[EngineHttp]]
"""Takes the limit of each call in seconds."""


@asynccontextmanager
async def session(timeout_s: float) -> AsyncIterator[EngineHttp]:
    async with aclosing(EngineSession(timeout_s)) as http:
        yield http


@asynccontextmanager
async def connections(timeout_s: float) -> AsyncIterator[EngineHttp]:
    yield EngineConnections(timeout_s)


@pytest.fixture(params=[session, connections], ids=["operator", "router"])
def opens(request: pytest.FixtureRequest) -> Opens:
    opens: Opens = request.param
    return opens


@pytest.fixture
async def http(opens: Opens) -> AsyncIterator[EngineHttp]:
    async with opens(5.0) as http:
        yield http


async def test_an_answer_is_its_status_and_its_whole_body(http: EngineHttp) -> None:
    async with listening(saying(OK.replace(b"200 OK", b"503 No"))) as url:
        assert await http.get(f"{url}/health") == Answer(503, b"ok")


async def test_a_json_object_is_sent_as_such(http: EngineHttp) -> None:
    read: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        assert "content-type: application/json" in head
        read.append(json.loads(await reader.readexactly(length)))
        writer.write(OK)

    async with listening(serve) as url:
        assert (await http.post(url, {"model": "m"})).status == 200
    assert read == [{"model": "m"}]


async def test_a_redirect_is_an_answer_and_is_not_followed(http: EngineHttp) -> None:
    moved = b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n"
    async with listening(saying(moved)) as url:
        assert (await http.get(url)).status == 302


async def test_where_nothing_listens_the_connection_is_refused(
    http: EngineHttp, unused_tcp_port: int
) -> None:
    with pytest.raises(NotAnsweredError, match="refused") as caught:
        await http.get(f"http://127.0.0.1:{unused_tcp_port}/health")
    assert (caught.value.is_refused, caught.value.is_late) == (True, False)


async def test_an_engine_that_says_nothing_is_late(opens: Opens) -> None:
    async with opens(0.05) as http, listening(stall) as url:
        with pytest.raises(NotAnsweredError) as caught:
            await http.get(url)
    assert (caught.value.is_refused, caught.value.is_late) == (False, True)


async def test_a_call_may_have_a_limit_of_its_own(http: EngineHttp) -> None:
    async with listening(stall) as url:
        with pytest.raises(NotAnsweredError) as caught:
            await http.post(url, {}, limit_s=0.05)
    assert caught.value.is_late


async def test_an_engine_that_stops_in_the_middle_is_late(opens: Opens) -> None:
    begun = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    async with opens(0.05) as http, listening(begun) as url:
        with pytest.raises(NotAnsweredError) as caught:
            await http.get(url)
    assert caught.value.is_late


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    ],
    ids=["nothing", "another protocol", "half of it"],
)
async def test_what_is_no_answer_is_told_from_a_refusal(http: EngineHttp, answer: bytes) -> None:
    async with listening(saying(answer, then_close=True)) as url:
        with pytest.raises(NotAnsweredError) as caught:
            await http.get(url)
    assert str(caught.value)
    assert (caught.value.is_refused, caught.value.is_late) == (False, False)


async def test_an_answer_without_an_end_is_not_kept_in_memory(http: EngineHttp) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        while not writer.is_closing():
            writer.write(bytes(1 << 16))
            try:
                await writer.drain()
            except ConnectionError:
                return

    async with listening(serve) as url:
        with pytest.raises(NotAnsweredError, match="longer than 8 MiB"):
            await http.get(url)


@pytest.mark.parametrize("address", ["http://[half", "http://", "http://127.0.0.1:x"])
async def test_an_address_that_is_none_is_said(http: EngineHttp, address: str) -> None:
    with pytest.raises(NotAnsweredError):
        await http.get(f"{address}/health")


async def test_a_body_that_ends_with_the_connection_is_whole(http: EngineHttp) -> None:
    async with listening(saying(b"HTTP/1.1 200 OK\r\n\r\nall of it", then_close=True)) as url:
        assert await http.get(url) == Answer(200, b"all of it")


async def test_many_calls_leave_no_connection_behind(http: EngineHttp) -> None:
    served: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(OK)
        served.remove(writer)

    async with listening(serve) as url:
        answers = await asyncio.gather(*(http.get(url) for _ in range(50)))
        assert {answer.body for answer in answers} == {b"ok"}
        if isinstance(http, EngineSession):
            await http.aclose()
        await until(lambda: not served)


async def test_a_session_can_ask_again_after_it_was_closed() -> None:
    async with aclosing(EngineSession(5.0)) as session, listening(saying(OK)) as url:
        await session.get(url)
        await session.aclose()
        assert (await session.get(url)).body == b"ok"
