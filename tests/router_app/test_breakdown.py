"""A part that dies of a mistake ends the process: nothing goes on half alive."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import NoReturn

import pytest

from router_app_objects import StillSource
from sagepool_crds.meta import PoolKey
from sagepool_router.config import Settings
from sagepool_router.serve import serve
from sagepool_router.sources.publisher import TablePublisher
from sagepool_router.sources.status import Source


class BrokenSource(StillSource):
    """A source with a mistake in it."""

    async def run(self) -> NoReturn:
        await asyncio.sleep(0)
        raise ZeroDivisionError


@asynccontextmanager
async def open_broken(settings: Settings, publisher: TablePublisher) -> AsyncIterator[Source]:
    yield BrokenSource()


def listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


async def test_a_source_that_dies_ends_the_process_with_1_and_a_log_line(
    caplog: pytest.LogCaptureFixture,
):
    settings = Settings("kubernetes", PoolKey("default", "rag"), grace_s=0)
    with ExitStack() as stack:
        sockets = [stack.enter_context(listen()) for _ in range(2)]
        async with asyncio.timeout(20):
            assert await serve(settings, open_broken, *sockets) == 1
    (line,) = [record for record in caplog.records if record.message == "broke down"]
    assert line.part == "source"
    assert line.exc_info is not None
    assert line.exc_info[0] is ZeroDivisionError
