"""Asks engines how loaded they are while this router has something in flight there.

A page of metrics is long and asked for twice a second: it goes over the request path's own kind
of connection and only the few lines that matter are read.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from sagepool_crds.pool import EngineType
from sagepool_engines.dialects import (
    DIALECTS,
    Dialect,
    EngineLoad,
    UnexpectedAnswerError,
    read_load,
)
from sagepool_router.backend import LiveBackend
from sagepool_router.table import Backend
from sagepool_router.upstream import CoarseClock, IdlePool, UpstreamConnection

Address: TypeAlias = tuple[str, str, int, str, EngineType]
"""One process: backends of two roles may share it."""


@dataclass(frozen=True, slots=True)
class PollLimits:
    """How often engines are asked, and what an answer may take."""

    interval_s: float = 0.5
    """Between two looks at who is to be asked."""
    answer_s: float = 1.0
    """From asking to the end of the answer."""
    silence_s: float = 2.0
    """Without an answer for so long, what is known counts for nothing."""
    max_under_way: int = 8
    """Asked at a time; the others wait for their turn."""
    max_page_bytes: int = 1 << 20
    """A page of metrics."""
    max_head_bytes: int = 64 << 10
    """The header fields before it."""
    idle_s: float = 4.0
    """An idle connection; below vLLM's own limit of 5 s."""
    max_pause_s: float = 4.0
    """Between two questions to an engine that fails to answer; doubled up to it, so that engines
    that stall do not hold the turns of those that answer."""


class LoadPoller:
    """Keeps asking; to be used in one event loop.

    Args:
        targets: the backends of the table in use.
        on_sample: told what an engine says, once for each of its backends.
        clock: seconds, monotonic.
        limits: how often and how much.
        on_silence: told once an interval of each backend that has had something in flight for
            `silence_s` and has not said anything in that time.
        tls: for backends with https addresses; None: the system's trust store.
    """

    def __init__(
        self,
        targets: Callable[[], Iterable[LiveBackend]],
        on_sample: Callable[[LiveBackend, EngineLoad], None],
        clock: Callable[[], float],
        limits: PollLimits | None = None,
        *,
        on_silence: Callable[[LiveBackend], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.limits = limits or PollLimits()
        self._targets = targets
        self._on_sample = on_sample
        self._on_silence = on_silence
        self._clock = clock
        self._coarse_clock = CoarseClock()
        self._tls = tls
        self._engines: dict[Address, _Engine] = {}
        self._turns: deque[_Engine] = deque()
        """Engines that are to be asked when a question under way has ended."""
        self._under_way: set[_Question] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to ask; to be called in the event loop that serves."""
        self._tick()

    async def close(self) -> None:
        """Ask no more and close all connections."""
        if self._timer is not None:
            self._timer.cancel()
        self._turns.clear()
        for question in tuple(self._under_way):
            question.abandon()
        self._under_way.clear()
        for engine in self._engines.values():
            engine.pool.close()
        self._engines.clear()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports are torn down in the loop's next turn

    # Who is asked.

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.limits.interval_s, self._tick)
        now = self._coarse_clock.now = self._clock()
        self._follow()
        for engine in self._engines.values():
            engine.pool.sweep()
            if not any(backend.in_flight for backend in engine.backends):
                engine.is_busy = False
                continue
            if not engine.is_busy:
                engine.is_busy = True
                engine.heard_at = now
            elif now - engine.heard_at > self.limits.silence_s:
                self._tell_silence(engine)
            if not engine.is_asked and now >= engine.ask_from:
                engine.is_asked = True
                self._turns.append(engine)
        self._ask_next()

    def _follow(self) -> None:
        """The engines of the table in use, what is known of those that stay with them."""
        members: dict[Address, list[LiveBackend]] = {}
        for backend in self._targets():
            members.setdefault(_address(backend.facts), []).append(backend)
        for address in self._engines.keys() - members.keys():
            gone = self._engines.pop(address)
            gone.backends = ()
            gone.pool.close()
        for address, backends in members.items():
            engine = self._engines.get(address)
            if engine is None:
                limits = self.limits
                pool = IdlePool(self._coarse_clock, limits.idle_s, limits.max_head_bytes)
                engine = self._engines[address] = _Engine(backends[0].facts, pool)
            engine.backends = tuple(backends)

    def _tell_silence(self, engine: "_Engine") -> None:
        if self._on_silence is not None:
            for backend in engine.backends:
                self._on_silence(backend)

    def _ask_next(self) -> None:
        while self._turns and len(self._under_way) < self.limits.max_under_way:
            engine = self._turns.popleft()
            if not engine.backends:  # it has left the table meanwhile
                continue
            question = _Question(self, engine)
            self._under_way.add(question)
            question.ask()

    # For questions.

    def connect(self, question: "_Question") -> asyncio.Task[None]:
        """Open a connection for a question."""
        task = asyncio.get_running_loop().create_task(self._connect(question))
        self._connecting.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._connecting.discard)
        return task

    async def _connect(self, question: "_Question") -> None:
        facts, pool = question.engine.facts, question.engine.pool
        is_tls = facts.scheme == "https"
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: UpstreamConnection(pool),
                facts.host,
                facts.port,
                ssl=self._tls_context() if is_tls else None,
                server_hostname=facts.host if is_tls else None,
            )
        except OSError:
            question.engine_failed("cannot connect")
            return
        if connection.transport.is_closing():
            question.engine_failed("the engine closed the connection")
        else:
            question.send(connection)

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def answered(self, question: "_Question", load: EngineLoad | None) -> None:
        """A question has ended: with a load, or with nothing that counts."""
        engine = question.engine
        self._under_way.discard(question)
        engine.is_asked = False
        now = self._clock()
        if load is None:
            engine.failures += 1
            left_out = 2 ** min(engine.failures - 1, 10) - 1  # none after the first failure
            pause = min(self.limits.max_pause_s, left_out * self.limits.interval_s)
            engine.ask_from = now + pause
        else:
            engine.failures = 0
            engine.heard_at = now
        self._ask_next()
        if load is not None:
            for backend in engine.backends:
                self._on_sample(backend, load)


class _Engine:
    """One process and how asking it goes."""

    __slots__ = (
        "ask_from",
        "backends",
        "dialect",
        "facts",
        "failures",
        "heard_at",
        "is_asked",
        "is_busy",
        "pool",
        "request",
    )

    def __init__(self, facts: Backend, pool: IdlePool) -> None:
        self.facts = facts
        self.dialect = DIALECTS[facts.engine]
        self.pool = pool
        self.request = (
            f"GET {facts.prefix}{self.dialect.metrics_path} HTTP/1.1\r\n"
            f"host: {facts.host}:{facts.port}\r\naccept: text/plain\r\n\r\n"
        ).encode()
        self.backends: tuple[LiveBackend, ...] = ()
        """Empty once it has left the table."""
        self.is_busy = False
        """Something was in flight there at the last look."""
        self.is_asked = False
        """A question is under way or waits for its turn."""
        self.failures = 0
        """In a row."""
        self.ask_from = 0.0
        self.heard_at = 0.0
        """When it answered last; not before it became busy."""


class _Question:
    """One request for a page of metrics: an AnswerSink."""

    __slots__ = ("_connection", "_pieces", "_poller", "_size", "_task", "_timer", "engine")

    def __init__(self, poller: LoadPoller, engine: _Engine) -> None:
        self.engine = engine
        self._poller = poller
        self._connection: UpstreamConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(
            poller.limits.answer_s, self._take_too_long
        )
        self._pieces: list[bytes] = []
        self._size = 0

    def ask(self) -> None:
        """Send it, on an idle connection if there is one."""
        connection = self.engine.pool.take()
        if connection is not None:
            self.send(connection)
        else:
            self._task = self._poller.connect(self)

    def send(self, connection: UpstreamConnection) -> None:
        """Send it on this connection."""
        self._task = None
        self._connection = connection
        connection.send(self, self.engine.request, b"")

    def abandon(self) -> None:
        """Whatever it waits for is no longer waited for."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.abandon()

    # AnswerSink

    def begin(self, connection: UpstreamConnection) -> None:
        """The head has come; a page that is not the engine's is read too: it ends soon."""

    def receive(self, data: bytes) -> None:
        """A part of the page."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._poller.limits.max_page_bytes:
            self.abandon()
            self._end(None)

    def finish(self) -> None:
        """The page is complete."""
        is_page = self._connection is not None and self._connection.status == 200
        self._end(find_load(self.engine.dialect, b"".join(self._pieces)) if is_page else None)

    def engine_failed(self, reason: str) -> None:
        """There will be no page."""
        self._end(None)

    def connection_was_stale(self) -> None:
        """The engine had closed the connection: a new one cannot be stale."""
        self._connection = None
        self._task = self._poller.connect(self)

    def _take_too_long(self) -> None:
        self.abandon()
        self._end(None)

    def _end(self, load: EngineLoad | None) -> None:
        self._timer.cancel()
        self._poller.answered(self, load)


def find_load(dialect: Dialect, page: bytes) -> EngineLoad | None:
    """What `read_load` reads from a page, without looking at every line.

    None for a page that has none of the metrics, or not with numbers: it tells of no load, and
    that is not the same as a load of zero.
    """
    names = dialect.running_metrics | dialect.waiting_metrics | dialect.usage_metrics
    page = b"\n" + page  # so that the first line begins like all others
    lines = [line for name in names for line in _lines_of(page, name.encode())]
    if not lines:
        return None
    try:
        return read_load(dialect, b"\n".join(lines).decode(errors="replace"))
    except (UnexpectedAnswerError, IndexError, OverflowError):
        return None  # a line that is cut off, or an infinite count


def _lines_of(page: bytes, name: bytes) -> Iterator[bytes]:
    """The samples of one metric."""
    start = b"\n" + name
    at = page.find(start)
    while at >= 0:
        after = at + len(start)
        end = page.find(b"\n", after)
        if page[after : after + 1] in (b"{", b" "):  # else a longer name
            yield page[at + 1 :] if end < 0 else page[at + 1 : end]
        at = page.find(start, after)


def _address(facts: Backend) -> Address:
    return facts.scheme, facts.host, facts.port, facts.prefix, facts.engine
