"""Calls to engines over real sockets: an answer, or the reason why there is none."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import pytest

from sagepool_engines.http import Answer, EngineSession, NotAnsweredError

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


@pytest.fixture
async def http() -> AsyncIterator[EngineSession]:
    async with EngineSession(timeout_s=5.0) as session:
        yield session


async def test_an_answer_is_its_status_and_its_whole_body(http: EngineSession) -> None:
    async with listening(saying(OK.replace(b"200 OK", b"503 No"))) as url:
        assert await http.get(f"{url}/health") == Answer(503, b"ok")


async def test_a_json_object_is_sent_as_such(http: EngineSession) -> None:
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


async def test_a_redirect_is_an_answer_and_is_not_followed(http: EngineSession) -> None:
    moved = b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n"
    async with listening(saying(moved)) as url:
        assert (await http.get(url)).status == 302


async def test_where_nothing_listens_the_connection_is_refused(
    http: EngineSession, unused_tcp_port: int
) -> None:
    with pytest.raises(NotAnsweredError, match="refused") as caught:
        await http.get(f"http://127.0.0.1:{unused_tcp_port}/health")
    assert (caught.value.is_refused, caught.value.is_late) == (True, False)


async def test_an_engine_that_says_nothing_is_late() -> None:
    async with EngineSession(timeout_s=0.05) as http, listening(stall) as url:
        with pytest.raises(NotAnsweredError) as caught:
            await http.get(url)
    assert (caught.value.is_refused, caught.value.is_late) == (False, True)


async def test_an_engine_that_stops_in_the_middle_is_late() -> None:
    begun = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    async with EngineSession(timeout_s=0.05) as http, listening(begun) as url:
        with pytest.raises(NotAnsweredError) as caught:
            await http.get(url)
    assert caught.value.is_late


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nhalf",
    ],
    ids=["nothing", "another protocol", "half of it", "not what its encoding says"],
)
async def test_what_is_no_answer_is_told_from_a_refusal(http: EngineSession, answer: bytes) -> None:
    async with listening(saying(answer, then_close=True)) as url:
        with pytest.raises(NotAnsweredError) as caught:
            await http.get(url)
    assert str(caught.value)
    assert (caught.value.is_refused, caught.value.is_late) == (False, False)


async def test_an_answer_without_an_end_is_not_kept_in_memory(http: EngineSession) -> None:
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


async def test_an_address_that_is_none_is_said(http: EngineSession) -> None:
    with pytest.raises(NotAnsweredError):
        await http.get("http://[half/health")


async def test_it_can_ask_again_after_it_was_closed(http: EngineSession) -> None:
    async with listening(saying(OK)) as url:
        await http.get(url)
        await http.close()
        assert (await http.get(url)).body == b"ok"
