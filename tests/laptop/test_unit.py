"""When processes of a unit start, and that they end together."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from sage_command import kill
from sagepool.laptop.keeper import Keeper
from sagepool.laptop.launch import PORT, PartLaunch
from sagepool.laptop.logfile import LogFile
from sagepool.laptop.process import ProcessId, is_alive
from sagepool.laptop.unit import Unit

pytestmark = pytest.mark.timeout(60)

SERVES = [sys.executable, "-m", "http.server", "--bind=127.0.0.1", PORT]
WAITS = ["sleep", "60"]
ENDS = ["sh", "-c", "echo out of memory; exit 3"]


class Watch:
    """Wakes who waits for the records to become as claimed."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []
        """Name, phase and message, whenever one of them has changed."""
        self.keepers: list[Keeper] = []
        self._news = asyncio.Event()

    def look(self) -> None:
        for keeper in self.keepers:
            now = (keeper.part.name, keeper.record.phase, keeper.record.message)
            if now != next((s for s in reversed(self.said) if s[0] == now[0]), None):
                self.said.append(now)
        self._news.set()

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not claim():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def keepers_of(
    folder: Path, *commands: tuple[str, Sequence[str]], **options: Any
) -> AsyncIterator[tuple[Watch, list[Keeper]]]:
    """Keepers of processes with these names; what they have started is ended."""
    watch = Watch()
    async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
        for name, command in commands:
            keeper = Keeper(
                PartLaunch(name, "engine", list(command), "/"),
                LogFile(folder / f"{name}.log"),
                client,
                on_change=watch.look,
                on_move=lambda: None,
                taken=lambda: {keeper.port for keeper in watch.keepers},
                **options,
            )
            watch.keepers.append(keeper)
        try:
            yield watch, watch.keepers
        finally:
            for keeper in watch.keepers:
                await keeper.stop()


@asynccontextmanager
async def running(unit: Unit, predecessors: Sequence[Keeper] = ()) -> AsyncIterator[None]:
    task = asyncio.create_task(unit.run(predecessors))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def pauses_until(count: int) -> tuple[list[float], Callable[[float], Awaitable[None]]]:
    """Pauses that were asked for; that many end at once, the next one does not end."""
    pauses: list[float] = []

    async def sleep(delay_s: float) -> None:
        pauses.append(delay_s)
        if len(pauses) > count:
            await asyncio.Event().wait()

    return pauses, sleep


def waits_for(keeper: Keeper, predecessor: Keeper) -> bool:
    return keeper.record.message == f"{predecessor.part.name} loads on the same GPU first"


def process_of(keeper: Keeper) -> ProcessId:
    assert keeper.record.process is not None
    return keeper.record.process


async def test_it_starts_only_when_every_predecessor_has_been_ready(tmp_path: Path) -> None:
    names = [(name, WAITS) for name in ("chat-0", "chat-1", "wide-0")]
    async with (
        keepers_of(tmp_path, *names) as (watch, (first, second, wide)),
        running(Unit([wide]), [first, second]),
    ):
        for before in (first, second):
            await watch.until(partial(waits_for, wide, before))
            assert (wide.record.phase, wide.record.process) == ("waiting", None)
            before.is_stable.set()
        await watch.until(lambda: wide.record.phase == "starting")


async def test_it_waits_longer_from_end_to_end(tmp_path: Path) -> None:
    pauses, sleep = pauses_until(2)
    async with keepers_of(tmp_path, ("it", ["false"])) as (watch, (keeper,)):
        async with running(Unit([keeper], clock=lambda: 0.0, sleep=sleep)):
            await watch.until(lambda: keeper.record.restarts == 3)
            assert keeper.record.message == "it ended with exit code 1; it starts again in 4 s"
        assert pauses == [1, 2, 4]


async def test_the_second_starts_when_the_first_is_ready(tmp_path: Path) -> None:
    pair = (("chat", SERVES), ("text", SERVES))
    async with keepers_of(tmp_path, *pair) as (watch, (chat, text)):
        unit = Unit([chat, text])
        async with running(unit):
            await watch.until(lambda: text.record.phase == "ready")
            assert unit.is_stable
        told = [(name, phase) for name, phase, _ in watch.said]
        assert told.index(("chat", "ready")) < told.index(("text", "starting"))
        assert ("text", "waiting", "chat loads first") in watch.said


@pytest.mark.parametrize("killed", [0, 1])
async def test_when_one_ends_both_end_and_start_again_in_order(tmp_path: Path, killed: int) -> None:
    pair = (("chat", SERVES), ("text", SERVES))
    pauses, sleep = pauses_until(1)
    async with keepers_of(tmp_path, *pair) as (watch, keepers):
        async with running(Unit(keepers, sleep=sleep)):
            await watch.until(lambda: keepers[1].record.phase == "ready")
            before = [process_of(keeper) for keeper in keepers]
            watch.said.clear()
            kill(before[killed].pid)
            await watch.until(lambda: [k.record.restarts for k in keepers] == [1, 1])
            assert not any(map(is_alive, before))
            await watch.until(lambda: keepers[1].record.phase == "ready")
        name = keepers[killed].part.name
        other = keepers[1 - killed].part.name
        assert {s[0] for s in watch.said if "it ended with signal SIGKILL" in s[2]} == {name}
        ended = f"it ended with {name}; it starts again in 1 s"
        assert (other, "waiting", ended) in watch.said
        told = [(name, phase) for name, phase, _ in watch.said]
        assert told.index(("chat", "ready")) < told.index(("text", "starting"))
        assert pauses == [1]


async def test_a_first_that_ends_while_it_loads_keeps_the_second_from_starting(
    tmp_path: Path,
) -> None:
    pair = (("chat", ENDS), ("text", SERVES))
    _, sleep = pauses_until(0)
    async with keepers_of(tmp_path, *pair) as (watch, (chat, text)):
        unit = Unit([chat, text], sleep=sleep)
        async with running(unit):
            await watch.until(lambda: chat.record.restarts == 1)
            assert unit.culprit is chat
            assert chat.record.message.startswith("it ended with exit code 3: out of memory;")
            assert (text.record.phase, text.record.restarts) == ("waiting", 0)
            assert text.record.message == "chat loads first"


async def test_a_second_that_cannot_load_takes_the_first_with_it_and_is_the_culprit(
    tmp_path: Path,
) -> None:
    pair = (("chat", SERVES), ("text", ENDS))
    pauses, sleep = pauses_until(1)
    async with keepers_of(tmp_path, *pair) as (watch, (chat, text)):
        unit = Unit([chat, text], sleep=sleep)
        async with running(unit):
            await watch.until(lambda: text.record.restarts == 2)
            assert unit.culprit is text
            assert not unit.is_stable
            assert chat.is_stable.is_set()
            assert pauses == [1, 2]
            assert chat.record.message == "it ended with text; it starts again in 2 s"


async def test_one_that_ignores_sigterm_is_killed_when_the_other_has_ended(tmp_path: Path) -> None:
    stubborn = ["sh", "-c", f"trap '' TERM; {' '.join(SERVES)} & wait; wait"]
    pair = (("chat", stubborn), ("text", SERVES))
    _, sleep = pauses_until(0)
    async with (
        keepers_of(tmp_path, *pair, stop_s=0.5) as (watch, (chat, text)),
        running(Unit([chat, text], sleep=sleep)),
    ):
        await watch.until(lambda: text.record.phase == "ready")
        before = process_of(chat)
        kill(process_of(text).pid)
        await watch.until(lambda: chat.record.restarts == 1)
        assert not is_alive(before)
