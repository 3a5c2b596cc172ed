"""Asking engines for their load: over real sockets, of engines that answer and that do not."""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_crds.pool import EngineType, Role
from sagepool_engines.dialects import DIALECTS, EngineLoad, read_load
from sagepool_router.backend import LiveBackend
from sagepool_router.limits import Limits
from sagepool_router.load_poller import LoadPoller, PollLimits, find_load
from sagepool_router.table import Backend
from sagepool_router.upstream import CoarseClock

PAGE = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting_by_reason{engine="0"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
"""
LOAD = EngineLoad(3, 1, 0.25)
QUICK = PollLimits(interval_s=0.01, answer_s=0.1, silence_s=0.05, max_pause_s=0.02)
PATIENT = PollLimits(interval_s=0.01, answer_s=20, max_pause_s=0.02)


def page(body: bytes = PAGE, status: bytes = b"200 OK", fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), fields, body)


def chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        len(body),
        body,
    )


ANSWERS = {
    "ok": page(),
    "chunked": chunked(PAGE),
    "impatient": page(),
    "forgetful": page(),
    "closing": page(fields=b"connection: close\r\n"),
    "busy": page(b"vllm:num_requests_running 7\n"),
    "tei": page(b"te_queue_size 5\n"),
    "absent": page(b"not here", b"404 Not Found"),
    "failing": page(PAGE, b"500 Internal Server Error"),
    "html": page(b"<html>num_requests_running</html>"),
    "wordy": page(b"vllm:num_requests_running many\n"),
    "infinite": page(b"vllm:num_requests_running +Inf\n"),
    "cut": page(b"vllm:num_requests_running{"),
    "junk": b"SSH-2.0-OpenSSH\r\n",
    "half": page()[:-20],
}
"""What the engine behind a prefix answers; "half", "stall", "reset" and "endless" go on."""


@dataclass
class Engines:
    """One server with an engine behind each prefix."""

    port: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    most_under_way: int = 0
    crowded: asyncio.Event = field(default_factory=asyncio.Event)
    """Eight have been under way."""
    connections: int = 0
    forgot_at: float = 0.0
    """When "forgetful" closed a connection on its second question instead of answering."""
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """The poller has broken a connection off."""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Behind prefixes that begin with "held" engines answer from now on."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ")[1].decode()
                assert path.endswith("/metrics")
                name = path.split("/")[1]
                self.asked[name] += 1
                if name == "forgetful" and self.asked[name] == 2:
                    self.forgot_at = asyncio.get_running_loop().time()
                    break
                await self._answer(name, reader, writer)
        writer.close()

    async def _answer(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if name.startswith("held"):
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            if self.under_way == 8:
                self.crowded.set()
            await self.released.wait()
            self.under_way -= 1
            writer.write(page())
        elif name == "stall":
            await self._wait_for_hang_up(reader)
        elif name == "half":
            writer.write(ANSWERS[name])
            await self._wait_for_hang_up(reader)
        elif name == "endless":
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            await self._write_on(writer)
        elif name == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionResetError
        else:
            writer.write(ANSWERS[name])
            if name in ("closing", "impatient"):
                raise ConnectionResetError

    async def _write_on(self, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"10000\r\n%b\r\n" % (b"x" * 65536))
                await writer.drain()
        except ConnectionError:
            self.hung_up.set()
            raise

    async def _wait_for_hang_up(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            await reader.read(1)
        self.hung_up.set()
        raise ConnectionResetError


@asynccontextmanager
async def engines() -> AsyncIterator[Engines]:
    running = Engines()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(running.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    running.port = server.sockets[0].getsockname()[1]
    yield running
    server.close()
    for task in tuple(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)


class Heard:
    """What the poller has told, and a way to wait for it."""

    def __init__(self) -> None:
        self.samples: list[tuple[LiveBackend, EngineLoad]] = []
        self.silent: list[LiveBackend] = []
        self._changed = asyncio.Event()

    def sample(self, backend: LiveBackend, load: EngineLoad) -> None:
        self.samples.append((backend, load))
        self._changed.set()

    def silence(self, backend: LiveBackend) -> None:
        self.silent.append(backend)
        self._changed.set()

    def loads_of(self, member: LiveBackend) -> list[EngineLoad]:
        return [load for told, load in self.samples if told is member]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that comes with something told."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def live(
    port: int,
    prefix: str,
    *,
    in_flight: int = 1,
    role: Role = "llm",
    engine: EngineType = "vllm",
) -> LiveBackend:
    facts = Backend(
        instance=prefix,
        uid=f"uid-{prefix}",
        role=role,
        engine=engine,
        scheme="http",
        host="127.0.0.1",
        port=port,
        prefix=f"/{prefix}",
        models=("m",),
        limit=256,
    )
    member = LiveBackend(facts, Limits(), CoarseClock())
    member.in_flight = in_flight
    return member


@asynccontextmanager
async def polling(
    members: Sequence[LiveBackend], limits: PollLimits = PATIENT
) -> AsyncIterator[Heard]:
    heard = Heard()
    poller = LoadPoller(
        lambda: members,
        heard.sample,
        asyncio.get_running_loop().time,
        limits,
        on_silence=heard.silence,
    )
    poller.start()
    try:
        yield heard
    finally:
        await poller.close()


@pytest.mark.parametrize(
    ("prefix", "engine", "load"),
    [
        ("ok", "vllm", LOAD),
        ("chunked", "simulator", LOAD),
        ("closing", "vllm", LOAD),
        ("busy", "vllm", EngineLoad(7, 0, 0.0)),
        ("tei", "tei", EngineLoad(0, 5, 0.0)),
    ],
)
async def test_an_engine_with_work_is_asked_again_and_again(
    prefix: str, engine: EngineType, load: EngineLoad
) -> None:
    async with engines() as running:
        member = live(running.port, prefix, engine=engine)
        async with polling([member]) as heard:
            await heard.until(lambda: len(heard.samples) >= 3)
    assert heard.loads_of(member)[:3] == [load] * 3
    assert heard.silent == []


async def test_questions_share_a_connection() -> None:
    async with engines() as running:
        async with polling([live(running.port, "ok")]) as heard:
            await heard.until(lambda: len(heard.samples) >= 5)
        assert running.connections == 1


async def test_an_idle_engine_is_not_asked() -> None:
    async with engines() as running:
        idle, busy = live(running.port, "busy", in_flight=0), live(running.port, "ok")
        async with polling([idle, busy]) as heard:
            await heard.until(lambda: len(heard.samples) >= 5)
            assert running.asked.keys() == {"ok"}
            idle.in_flight, busy.in_flight = 1, 0
            await heard.until(lambda: len(heard.loads_of(idle)) >= 3)
            asked = running.asked["ok"]
            await heard.until(lambda: len(heard.loads_of(idle)) >= 6)
            assert running.asked["ok"] == asked


async def test_two_roles_of_one_process_are_asked_for_once_and_both_told() -> None:
    async with engines() as running:
        chat = live(running.port, "ok")
        embedding = live(running.port, "ok", role="embedding", in_flight=0)
        async with polling([chat, embedding]) as heard:
            await heard.until(lambda: len(heard.samples) >= 6)
        assert heard.loads_of(chat) == heard.loads_of(embedding)
        assert running.asked["ok"] <= len(heard.loads_of(chat)) + 1


@pytest.mark.parametrize(
    "prefix",
    [
        "absent",
        "failing",
        "html",
        "wordy",
        "infinite",
        "cut",
        "junk",
        "half",
        "stall",
        "reset",
        "endless",
    ],
)
async def test_an_engine_without_a_page_counts_nothing_and_harms_no_other(
    prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with engines() as running:
        bad, good = live(running.port, prefix), live(running.port, "ok")
        async with polling([bad, good], QUICK) as heard:
            await heard.until(lambda: running.asked[prefix] >= 3 and bad in heard.silent)
            told = len(heard.loads_of(good))
            await heard.until(lambda: len(heard.loads_of(good)) >= told + 3)
    assert heard.loads_of(bad) == []
    assert caplog.records == []


async def test_an_engine_that_is_gone_counts_nothing_and_harms_no_other() -> None:
    with socket.socket() as taken:  # bound and not listening: connects are refused
        taken.bind(("127.0.0.1", 0))
        async with engines() as running:
            gone, good = live(taken.getsockname()[1], "ok"), live(running.port, "ok")
            async with polling([gone, good], QUICK) as heard:
                await heard.until(lambda: gone in heard.silent)
                told = len(heard.loads_of(good))
                await heard.until(lambda: len(heard.loads_of(good)) >= told + 3)
    assert heard.loads_of(gone) == []


@pytest.mark.parametrize("prefix", ["stall", "half", "endless"])
async def test_an_answer_that_does_not_end_is_broken_off(prefix: str) -> None:
    async with engines() as running, polling([live(running.port, prefix)], QUICK):
        await asyncio.wait_for(running.hung_up.wait(), 20)


async def test_a_page_that_is_too_long_is_broken_off_before_its_time_is_over() -> None:
    async with engines() as running, polling([live(running.port, "endless")], PATIENT):
        await asyncio.wait_for(running.hung_up.wait(), 10)


async def test_a_connection_that_the_engine_closed_meanwhile_costs_no_sample() -> None:
    async with engines() as running:
        async with polling([live(running.port, "impatient")]) as heard:
            await heard.until(lambda: len(heard.samples) >= 5)
        assert running.asked["impatient"] <= len(heard.samples) + 1


async def test_a_question_that_met_a_closing_connection_is_asked_again_at_once() -> None:
    slow = PollLimits(interval_s=1.0)
    async with engines() as running, polling([live(running.port, "forgetful")], slow) as heard:
        await heard.until(lambda: len(heard.samples) >= 2)
        assert asyncio.get_running_loop().time() - running.forgot_at < 0.9
        assert (running.asked["forgetful"], running.connections) == (3, 2)


async def test_few_are_asked_at_a_time_and_the_others_afterwards() -> None:
    async with engines() as running:
        held = [live(running.port, f"held{n}") for n in range(20)]
        async with polling([*held, live(running.port, "ok")]) as heard:
            await asyncio.wait_for(running.crowded.wait(), 20)
            running.released.set()
            await heard.until(lambda: all(heard.loads_of(member) for member in held))
        assert running.most_under_way == 8


async def test_an_engine_that_answers_again_is_heard_again() -> None:
    async with engines() as running:
        member = live(running.port, "held")
        async with polling([member], QUICK) as heard:
            await heard.until(lambda: len(heard.silent) >= 3)
            running.released.set()
            await heard.until(lambda: len(heard.loads_of(member)) >= 3)


async def test_an_engine_that_has_left_the_table_is_forgotten() -> None:
    async with engines() as running:
        leaving, staying = live(running.port, "held"), live(running.port, "ok")
        members = [leaving, staying]
        async with polling(members) as heard:
            await heard.until(lambda: running.under_way == 1)
            members.remove(leaving)
            told = len(heard.samples)
            await heard.until(lambda: len(heard.samples) >= told + 3)
            running.released.set()
            told = len(heard.samples)
            await heard.until(lambda: len(heard.samples) >= told + 3)
        assert heard.loads_of(leaving) == []
        assert running.asked["held"] == 1


async def test_after_closing_nothing_is_asked_and_no_connection_stays_open() -> None:
    async with engines() as running:
        members = [live(running.port, "stall"), live(running.port, "ok")]
        async with polling(members) as heard:
            await heard.until(lambda: running.asked["stall"] == 1 and len(heard.samples) >= 2)
        await asyncio.wait_for(running.hung_up.wait(), 20)
        told = len(heard.samples)
        async with polling([live(running.port, "busy")]) as others:
            await others.until(lambda: len(others.samples) >= 5)
        assert len(heard.samples) == told


# Reading a page.

NAMES = ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"]
names = st.sampled_from([*NAMES, "te_queue_size", "vllm:num_requests_waiting_by_reason", "x"])
labels = st.sampled_from(["", '{engine="0"}', '{a="}{ "}', '{model_name="a b",engine="1"}'])
values = st.sampled_from(["0", "1.0", "3", "17.0", "0.5", "NaN", "1e2"])
samples = st.builds("{}{} {}".format, names, labels, values)
comments = st.builds("# HELP {} {}".format, names, names)
pages = st.lists(samples | comments | st.just(""), max_size=30)


@given(st.sampled_from(["vllm", "tei"]), pages, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_the_quick_look_finds_what_reading_every_line_finds(
    engine: EngineType, lines: list[str], newline: str, is_ended: bool
) -> None:
    dialect = DIALECTS[engine]
    text = newline.join(lines) + (newline if is_ended else "")
    found = find_load(dialect, text.encode())
    told = dialect.running_metrics | dialect.waiting_metrics | dialect.usage_metrics
    if any(line.partition("{")[0].partition(" ")[0] in told for line in lines):
        assert found == read_load(dialect, text)
    else:
        assert found is None
