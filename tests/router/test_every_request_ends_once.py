"""Whatever happens between clients, engines and the table: each request ends exactly once, with
what belongs to it, and nothing of it stays behind."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.server import ServerState

from compiled import IS_COMPILED
from router_keys import secret_of
from router_memory_client import Client, Request
from router_memory_engine import Attempt, Engine
from router_memory_judge import check_answer
from router_memory_loop import HIGH_WATER, MemoryLoop
from router_memory_requests import KEYS, make_embedding, make_request
from router_memory_tables import ROLES, make_table, places
from router_server import backend, table_of
from sagepool_router.auth.entries import KeyEntry
from sagepool_router.auth.keyring import Keyring
from sagepool_router.auth.limits import KeyLimits
from sagepool_router.auth.source import KeySource
from sagepool_router.backend import LiveBackend
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.limits import Limits
from sagepool_router.protocol import InferenceProtocol
from sagepool_router.scheduling.gpus import Gpu

PATIENCE: Final = Limits(
    connect_s=0.5,
    first_byte_s=4.0,
    gap_s=2.0,
    total_s=8.0,
    stall_s=1.0,
    header_s=1.0,
    upload_s=1.5,
    keepalive_s=2.0,
    linger_s=0.5,
    pool_idle_s=2.0,
    max_body_bytes=20_000,
    held_bytes=400,
    max_pipelined=2,
    eject_s=0.5,
    eject_max_s=2.0,
)
NEVER_LATER_S: Final = 12.0
"""Beyond all limits, and the sweep behind them."""


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """What answers beside the inference routes: with the request's id."""
    while (await receive()).get("more_body"):
        pass
    name = dict(scope["headers"]).get(b"x-request-id", b"")
    fields = [(b"content-length", b"%d" % len(name))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": name})


CONFIG: Final = Config(app, log_config=None, http=InferenceProtocol, ws="none", access_log=False)
CONFIG.load()


class Begun(set[Any]):
    """Requests under way, and how many there have been."""

    total = 0

    def add(self, item: Any) -> None:
        self.total += 1
        super().add(item)


class Errors(logging.Handler):
    """What is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(f"{record.getMessage()}: {record.exc_info}")


@contextmanager
def no_errors_logged() -> Iterator[None]:
    errors = Errors()
    loggers = [logging.getLogger(name) for name in ("sagepool_router", "uvicorn.error")]
    for logger in loggers:
        logger.addHandler(errors)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(errors)
    assert not errors.found


class History:
    """A life of a router, which may be any."""

    def __init__(self, loop: MemoryLoop, seed: int) -> None:
        self.loop = loop
        self.random = random = Random(seed)
        self.keys = self._keys() if random.random() < 0.4 else None
        self.dispatcher = Dispatcher(
            replace(
                PATIENCE,
                body_budget_bytes=random.choice((3000, *(1 << 20,) * 5)),
                max_inflight=random.choice((5, *(1000,) * 7)),
            ),
            random=Random(seed).random,
            clock=loop.time,
            keys=self.keys,
        )
        self.dispatcher.exchanges = self.begun = Begun()
        self.server = ServerState()
        self.clients: list[Client] = []
        self.requests: dict[str, Request] = {}
        self.engines = [Engine(loop, *place) for place in places()]
        self.backends: set[LiveBackend] = set()
        """All that there ever were."""
        self.gpus: set[Gpu] = set()
        self.version = 0
        self.change_table(random)
        self.dispatcher.start()

    def _keys(self) -> KeySource:
        source = KeySource(Path("keys"), clock=self.loop.time, salt=b"salt")
        limits = {
            "narrow": KeyLimits(requests_per_minute=60, tokens_per_minute=2000, max_concurrency=2)
        }
        models = {"bound": frozenset(("chat",))}
        entries = [
            KeyEntry(n, (secret_of(n),), limits=limits.get(n, KeyLimits()), models=models.get(n))
            for n in KEYS
        ]
        source.keyring = Keyring(entries, b"salt", now=self.loop.time())
        return source

    @property
    def attempts(self) -> list[Attempt]:
        found = [attempt for engine in self.engines for attempt in engine.attempts]
        return sorted(found, key=lambda attempt: attempt.number)

    # Steps of clients.

    def send(self, random: Random) -> None:
        self._send(make_request(random, self._name(), self.keys is not None), random)

    def send_texts(self, random: Random) -> None:
        """Several send texts at the same time, so that some of them travel together."""
        for _ in range(random.choice((3, 6, 12))):
            request = make_embedding(random, self._name(), self.keys is not None)
            self._send(request, random)

    def _name(self) -> str:
        return f"request-{len(self.requests)}"

    def _send(self, request: Request, random: Random) -> None:
        self.requests[request.name] = request
        size = random.randrange(1, len(request.raw)) if random.random() < 0.15 else None
        ready = [c for c in self.clients if c.is_open and not c.unsent]
        if ready and random.random() < 0.4:
            client = random.choice(ready)
        else:
            client = connect(self.loop, self.dispatcher, self.server)
            self.clients.append(client)
        client.send(request, size)

    def send_more(self, random: Random) -> None:
        waiting = [client for client in self.clients if client.is_open and client.unsent]
        if waiting:
            random.choice(waiting).go_on(random.choice((None, None, 30)))

    def leave(self, random: Random) -> None:
        present = [client for client in self.clients if client.is_open]
        if present:
            random.choice(present).leave(is_reset=random.random() < 0.5)

    def stop_reading(self, random: Random) -> None:
        present = [client for client in self.clients if client.is_open]
        if present:
            client = random.choice(present)
            client.wire.read(not client.wire.is_read)

    # Steps of engines.

    def answer(self, random: Random) -> None:
        attempts = [attempt for attempt in self.attempts if attempt.is_open]
        if not attempts:
            return
        attempt = random.choice(attempts)
        if attempt.status:
            self._go_on(attempt, random)
        else:
            self._begin(attempt, random)

    def _begin(self, attempt: Attempt, random: Random) -> None:
        if attempt.streams:
            framing = random.choice(("chunked", "chunked", "chunked", "closing"))
            event = attempt.event()
            cut = random.choice((len(event), len(event), 5))
            attempt.begin(200, event[:cut], framing)
            if cut < len(event):
                attempt.go_on(event[cut:])
            return
        framing = random.choice(("sized", "sized", "chunked", "closing"))
        words = attempt.words()
        cut = random.choice((len(words), len(words), len(words) // 2, 0))
        attempt.begin(200, words[:cut], framing, size=len(words))
        if attempt.is_open and cut < len(words):
            attempt.go_on(words[cut:])
        if attempt.is_open:
            attempt.end()

    def _go_on(self, attempt: Attempt, random: Random) -> None:
        for _ in range(random.choice((0, 1, 5))):
            attempt.go_on(attempt.event())
        if random.random() < 0.5:
            attempt.end()

    def fail(self, random: Random) -> None:
        attempts = [attempt for attempt in self.attempts if attempt.is_open]
        if attempts:
            merged = [attempt for attempt in attempts if len(attempt.names) > 1]
            attempt = random.choice(merged or attempts)
            fault = random.choice((self._refuse, self._spoil, self._hang_up, self._tell_wrong))
            fault(attempt, random)

    def _refuse(self, attempt: Attempt, random: Random) -> None:
        if attempt.status:
            attempt.hang_up(is_reset=False)
            return
        status = random.choice((400, 401, 413, 422, 424, 429, 429, 429, 500, 503))
        framing = random.choice(("sized", "chunked"))
        pause = random.choice(("", "retry-after: 0", "retry-after: 1"))
        attempt.begin(status, attempt.refusal(status), framing, field=pause)
        attempt.end()

    def _spoil(self, attempt: Attempt, random: Random) -> None:
        attempt.spoil(
            random.choice(
                (
                    b"\x00\xffnonsense\r\n\r\n",
                    b"HTTP/1.1 200 OK\r\ncontent-length: nine\r\n\r\n",
                    b"HTTP/1.1 200 OK\r\nlong: " + b"x" * 70_000,
                    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n"
                    b"connection: upgrade\r\n\r\n",
                )
            )
        )

    def _hang_up(self, attempt: Attempt, random: Random) -> None:
        if not attempt.status and random.random() < 0.5:
            words = attempt.words()
            attempt.begin(200, words[:9], "sized", size=len(words))
        if attempt.is_open:
            attempt.hang_up(is_reset=random.random() < 0.5)

    def _tell_wrong(self, attempt: Attempt, random: Random) -> None:
        """Say that all is well, and then that it is not."""
        if attempt.status:
            attempt.hang_up(is_reset=True)
            return
        if attempt.streams:
            error = attempt.refusal(random.choice((400, 500, 503)))
            said = random.choice((b"data: %b\n\n" % error, attempt.abortion()))
        else:
            said = random.choice((attempt.refusal(500), attempt.words()[:-1], attempt.too_few()))
        attempt.begin(200, said, "chunked")
        if attempt.is_open:
            attempt.end()

    def say_unasked(self, random: Random) -> None:
        """Something happens on a connection on which nothing is asked."""
        idle = [wire for engine in self.engines for wire in engine.idle]
        if idle:
            wire = random.choice(idle)
            do: Callable[[], None] = random.choice(
                (wire.feed_eof, wire.feed_reset, lambda: wire.feed(b"HTTP/1.1 408 Late\r\n\r\n"))
            )
            do()

    def change_door(self, random: Random) -> None:
        engine = random.choice(self.engines)
        engine.door = random.choice(("open", "open", "slow", "shut", "stuck"))

    # Steps of the world.

    def change_table(self, random: Random) -> None:
        self.version += 1
        self.dispatcher.swap(make_table(random, self.version))
        fleet = self.dispatcher.fleet
        self.backends.update(fleet.backends)
        if fleet.cloud is not None:
            self.backends.add(fleet.cloud.backend)
        self.gpus.update(self.dispatcher.scheduler.gpus.values())

    def rest(self, random: Random) -> None:
        """Nothing happens; what was made simple ends here."""

    async def pass_time(self, random: Random) -> None:
        await asyncio.sleep(random.choice((0.001, 0.01, 0.1, 0.3, 1.0, 3.0)))

    # A whole life.

    async def run(self, steps: list[tuple[str, int]]) -> None:
        for name, detail in steps:
            random = Random(detail)
            done: Awaitable[None] | None = getattr(self, name)(random)
            if done is not None:
                await done
            self._check_loads()
            if random.random() < 0.7:
                await self._settle()
        ending = self.random.choice(
            (self._all_answer, self._all_are_silent, self._all_leave, self._drain)
        )
        await ending()
        self._check_idle()
        self._check_clients()
        self._check_decisions()
        await self.dispatcher.close()
        await self._settle()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others
        assert not any(engine.idle for engine in self.engines), "a connection was left open"
        assert not self.loop.mistakes

    async def _outlast_all(self) -> None:
        """Let pass the longest that all may take, one after the other on each connection."""
        for _ in range(max((len(client.requests) for client in self.clients), default=0)):
            if self.dispatcher.clients:
                await asyncio.sleep(NEVER_LATER_S)

    async def _settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    async def _all_answer(self) -> None:
        for engine in self.engines:
            engine.door = "open"
        for client in self.clients:
            client.wire.read(True)
        ends_at = self.loop.time() + NEVER_LATER_S
        while self.loop.time() < ends_at:
            for client in self.clients:
                if client.is_open and client.unsent:
                    client.go_on()
            for attempt in self.attempts:
                if attempt.is_open and not attempt.status:
                    self._begin(attempt, self.random)
                if attempt.is_open:
                    attempt.end()
            await asyncio.sleep(0.2)
        await self._outlast_all()

    async def _all_are_silent(self) -> None:
        """Time alone has to end everything, also where a client does not read."""
        await self._outlast_all()

    async def _all_leave(self) -> None:
        """Nothing is waited for: what nobody wants is broken off at once."""
        for client in self.clients:
            client.leave(is_reset=True)
        await self._settle()
        # a connection that is not read, because too much is in line on it, hides who left
        if all(client.wire.delivered == client.wire.fed for client in self.clients):
            self._check_idle(clients=False)
        await self._outlast_all()

    async def _drain(self) -> None:
        await self.dispatcher.drain(self.random.choice((0.0, 1.0)))
        await self._settle()
        if all(client.wire.is_read for client in self.clients):
            self._check_idle(clients=False)
        await self._outlast_all()

    # What always holds.

    def _check_loads(self) -> None:
        for found in self.backends:
            assert 0 <= found.unanswered <= found.in_flight
        scheduler = self.dispatcher.scheduler
        assert scheduler.waiting == sum(len(lane.queue) for lane in scheduler.lanes.values())

    # What holds in the end.

    def _check_idle(self, *, clients: bool = True) -> None:
        dispatcher = self.dispatcher
        scheduler = dispatcher.scheduler
        assert not dispatcher.exchanges
        assert not dispatcher.batches
        assert not dispatcher.held_body_bytes
        assert {b.name: b.in_flight for b in self.backends if b.in_flight} == {}
        assert {b.name: b.unanswered for b in self.backends if b.unanswered} == {}
        assert not scheduler.waiting
        for lane in scheduler.lanes.values():
            assert (len(lane.queue), lane.shares.flows, lane.queue.deadlines) == (0, 0, 0)
            assert not len(lane.companies)
        for gpu in self.gpus:
            assert (gpu.state.calls, gpu.state.llm_unanswered) == (0, 0)
        if self.keys is not None:
            assert {k.name: k.usage.in_flight for k in self.keys.keyring.keys} == dict.fromkeys(
                KEYS, 0
            )
        assert not any(line.is_busy for e in self.engines for line in e.lines), "work for nobody"
        counted = [dispatcher.counters.unrouted, *dispatcher.counters.by_model().values()]
        ended = sum(sum(counters.codes.values()) for counters in counted)
        if not IS_COMPILED:  # compiled code adds to a set without asking it
            assert ended == self.begun.total
        if clients:
            assert not dispatcher.clients

    def _check_decisions(self) -> None:
        placed: Counter[str] = Counter()
        for decision in self.dispatcher.scheduler.log.kept:
            request = self.requests[decision.request_id.decode()]
            assert decision.model == request.model
            assert decision.kind == ROLES[request.model]
            assert decision.place in {engine.name for engine in self.engines}
            placed[request.name] += decision.kind == "llm" and decision.reason != "retry"
        again = sum(times - 1 for times in placed.values() if times)
        # what an engine has no room for, or fails while all others are full, waits once more
        retries = self.dispatcher.counters.retries
        assert again <= sum(retries.values()) - retries.get("stale", 0), "placed twice"

    def _check_clients(self) -> None:
        carried: dict[str, list[Attempt]] = {}
        for attempt in self.attempts:
            for name in attempt.names:
                carried.setdefault(name, []).append(attempt)
        for name in carried:
            assert self.requests[name].is_valid, "an engine was sent what is not valid"
        for client in self.clients:
            answers = client.answers()
            assert len(answers) <= len(client.requests)
            for request, answer in zip(client.requests, answers, strict=False):
                check_answer(client, request, answer, carried.get(request.name, []))
            if len(answers) < len(client.requests) and not client.has_left:
                may_be_silent = (
                    client.unsent
                    or client.wire.lost_bytes
                    or (answers and answers[-1].ends_connection)
                )
                assert may_be_silent, "a request was not answered"


STEPS: Final = (
    *("rest",),
    *("send",) * 24,
    *("send_texts",) * 3,
    *("send_more",) * 6,
    *("answer",) * 24,
    *("fail",) * 6,
    *("leave",) * 4,
    *("stop_reading",) * 4,
    *("say_unasked",) * 2,
    *("change_door",) * 3,
    *("change_table",) * 3,
    *("pass_time",) * 8,
)


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    phases=(Phase.generate, Phase.shrink),  # to explain a failure would take longer than to find it
)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2**32)), min_size=20, max_size=80),
)
def test_every_request_ends_once_with_what_is_its_own(
    seed: int, steps: list[tuple[str, int]]
) -> None:
    async def live() -> None:
        await History(MemoryLoop.running(), seed).run(steps)

    run(live())


# What was found so.


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_stops_reading_sees_that_its_answer_is_not_whole(version: str) -> None:
    async def live() -> None:
        dispatcher, client, attempt = await begin_chat(version)
        attempt.begin(200, attempt.words(), "chunked")
        client.wire.read(False)
        attempt.go_on(b" " * 2 * HIGH_WATER)
        await asyncio.sleep(PATIENCE.stall_s + 1)
        assert client.ended == "reset"
        assert not dispatcher.exchanges
        await dispatcher.close()

    run(live())


def test_a_connection_whose_last_answer_is_not_read_is_not_kept() -> None:
    async def live() -> None:
        dispatcher, client, attempt = await begin_chat("1.0")
        client.wire.read(False)
        attempt.begin(200, attempt.words(), "sized")
        assert not dispatcher.exchanges
        assert client.wire.is_closing()
        await asyncio.sleep(PATIENCE.stall_s + 1)
        assert client.ended == "reset"
        assert not dispatcher.clients
        await dispatcher.close()

    run(live())


async def begin_chat(version: str) -> tuple[Dispatcher, Client, Attempt]:
    """A request that an engine has got and not answered."""
    loop = MemoryLoop.running()
    dispatcher = Dispatcher(PATIENCE, random=Random(1).random, clock=loop.time)
    engine = Engine(loop, 1000, "llm-0", ("chat",))
    dispatcher.swap(table_of(backend(1000, models=("chat",))))
    dispatcher.start()
    client = connect(loop, dispatcher, ServerState())
    body = b'{"model": "chat", "messages": [{"role": "user", "content": "request-0"}]}'
    head = "POST {} HTTP/{}\r\nx-request-id: request-0\r\ncontent-length: {}\r\n\r\n"
    path = "/v1/chat/completions"
    client.send(Request("request-0", path, head.format(path, version, len(body)).encode() + body))
    await asyncio.sleep(0.1)
    return dispatcher, client, engine.attempts[0]


def connect(loop: MemoryLoop, dispatcher: Dispatcher, server: ServerState) -> Client:
    return Client(
        loop,
        InferenceProtocol,
        config=CONFIG,
        server_state=server,
        app_state={"dispatcher": dispatcher},
    )


def run(life: Coroutine[Any, Any, None]) -> None:
    with no_errors_logged(), asyncio.Runner(loop_factory=MemoryLoop) as runner:
        runner.run(life)
