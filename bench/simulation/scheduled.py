"""The router's own scheduler and backends in simulated time.

What the dispatcher does around them is done here the same way, without bytes: it starts calls,
tells of first tokens and ends, learns from answers, samples engines and ends what waits too long.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from bench.simulation.clock import Clock
from bench.simulation.engines import Chat, ChatEngine, EmbeddingEngine, Texts
from bench.simulation.pools import EngineAt
from bench.simulation.traffic import Request
from sagepool_crds.pool import Role
from sagepool_engines.dialects import EngineLoad
from sagepool_router.backend import LiveBackend
from sagepool_router.limits import Limits
from sagepool_router.scheduling.embedding_work import EmbeddingWork
from sagepool_router.scheduling.lane import Lane
from sagepool_router.scheduling.scheduler import Call, QueueFullError, Scheduler
from sagepool_router.scheduling.settings import SchedulingSettings
from sagepool_router.scheduling.work import Work
from sagepool_router.table import Backend
from sagepool_router.upstream import CoarseClock

MODELS: Final[dict[Role, str]] = {"llm": "chat", "embedding": "embedder"}
_LIMIT: Final = 256
"""maxConcurrency, as a pool has it if it does not say."""
_SAMPLE_S: Final = 0.5
"""How often engines are asked for their load."""


class ScheduledRouter:
    """One router process.

    Args:
        engines: of the pool.
        clock: simulated.
        settings: of the pool.
        random: uniform in [0, 1).
    """

    def __init__(
        self,
        engines: Sequence[EngineAt],
        clock: Clock,
        settings: SchedulingSettings,
        random: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._limits = Limits()
        self._coarse_clock = CoarseClock()
        self.scheduler: Scheduler[LiveBackend] = Scheduler(
            settings,
            start=self._start,
            cut=_cut,
            clock=clock.read,
            random=random,
            call_later=clock.call_later,
        )
        self._backends = [
            LiveBackend(facts, self._limits, self._coarse_clock) for facts in _facts(engines)
        ]
        self._seat(settings)
        self._chat = {e.name: e.engine for e in engines if isinstance(e.engine, ChatEngine)}
        self._embedding = {
            e.name: e.engine for e in engines if isinstance(e.engine, EmbeddingEngine)
        }
        self._waiting: deque[Work[LiveBackend]] = deque()
        """What has had to wait, in the order of its arrival; it may have left since."""
        self._sweep()
        self._sample()

    def _seat(self, settings: SchedulingSettings) -> None:
        """Do what the fleet does with a table, in an order that does not depend on hashes."""
        devices: dict[str, list[LiveBackend]] = {}
        for backend in self._backends:
            devices.setdefault(backend.facts.device, []).append(backend)
        shared = {device: own for device, own in devices.items() if len(own) > 1}
        for backend in self._backends:
            backend.describe(backend.facts, is_specialized=backend.facts.device not in shared)
        lanes = {
            (model, role): [b for b in self._backends if b.kind == role]
            for role, model in MODELS.items()
        }
        placements = self.scheduler.swap(settings, lanes, shared)
        for placement in placements.values():
            for seat in placement.seats():
                seat.member.join((seat,))
        self.scheduler.resume()

    def submit(self, request: Request) -> None:
        """Have it placed, now or when it is its turn, or refuse it."""
        lane = self._lane(request.kind)
        work = self._work(request, lane)
        try:
            self.scheduler.submit(lane, work)
        except QueueFullError:
            request.end("refused", self._clock.now)
            return
        if work.state == "waiting":
            self._waiting.append(work)

    def _lane(self, kind: Role) -> Lane[LiveBackend]:
        return self.scheduler.lanes[MODELS[kind], kind]

    def _work(self, request: Request, lane: Lane[LiveBackend]) -> Work[LiveBackend]:
        work: Work[LiveBackend]
        now = self._clock.now
        model = MODELS[request.kind]
        if request.kind == "llm":
            output = min(request.output_tokens, 4 * lane.expected_output)
            tokens = max(1, request.tokens + 2 * round(output))
            work = Work(
                request.kind,
                model,
                now,
                priority=request.priority,
                tokens=tokens,
                affinity=request.affinity,
            )
        else:
            work = EmbeddingWork(
                request.kind,
                model,
                now,
                priority=request.priority,
                tokens=request.texts * request.tokens,
                texts=request.texts,
            )
        work.owner = request
        return work

    # Calls.

    def _start(self, call: Call[LiveBackend]) -> None:
        if not call.slices:
            self._start_chat(call)
            return
        texts = sum(piece.end - piece.begin for piece in call.slices)
        tokens = sum(_owner(p.work).tokens * (p.end - p.begin) for p in call.slices)
        engine = self._embedding[call.place.name]
        engine.accept(Texts(texts, tokens, lambda: self._embedded(call, tokens)))

    def _start_chat(self, call: Call[LiveBackend]) -> None:
        request = _owner(call.work)

        def first() -> None:
            request.first_token_at = self._clock.now
            self.scheduler.answered(call)

        def end() -> None:
            self._answered(call, request)

        engine = self._chat[call.place.name]
        engine.accept(Chat(request.tokens, request.output_tokens, first, end, request.prompt))

    def _answered(self, call: Call[LiveBackend], request: Request) -> None:
        lane, work = call.lane, call.work
        tokens = request.tokens + 2 * request.output_tokens
        lane.observe_output(request.output_tokens)
        lane.shares.correct(work.flow, work.weight, tokens - work.tokens)
        self._learn(call, tokens)
        self.scheduler.finished(call)
        request.end("answered", self._clock.now)

    def _embedded(self, call: Call[LiveBackend], tokens: int) -> None:
        place = call.place
        self._learn(call, tokens)
        seconds = self._clock.now - call.placed_at
        place.observe_batch(seconds, tokens, call.in_flight, is_full=call.is_full)
        self.scheduler.finished(call)
        for piece in call.slices:
            request = _owner(piece.work)
            request.texts_left -= piece.end - piece.begin
            if not request.texts_left and request.outcome is None:
                request.end("answered", self._clock.now)

    def _learn(self, call: Call[LiveBackend], tokens: int) -> None:
        seconds = self._clock.now - call.placed_at
        call.lane.observe(seconds)
        call.place.completed(seconds, tokens)

    # Now and then.

    def _sweep(self) -> None:
        now = self._coarse_clock.now = self._clock.now
        self._clock.call_later(self._limits.sweep_tick_s, self._sweep)
        self._expire(now)
        for backend in self._backends:
            backend.sweep()
        self.scheduler.sweep()

    def _expire(self, now: float) -> None:
        longest_s = self.scheduler.settings.queue.max_wait_s
        waiting = self._waiting
        while waiting and now - waiting[0].arrived_at >= longest_s:
            work = waiting.popleft()
            if work.state == "waiting":
                self.scheduler.cancel(self._lane(work.kind), work)
                _owner(work).end("expired", now)

    def _sample(self) -> None:
        self._clock.call_later(_SAMPLE_S, self._sample)
        for backend in self._backends:
            if backend.in_flight and backend.kind == "llm":
                engine = self._chat[backend.name]
                backend.observe_load(EngineLoad(engine.running, engine.waiting, 0.0))


def _owner(work: Work[LiveBackend]) -> Request:
    if not isinstance(work.owner, Request):
        raise TypeError("only simulated requests are scheduled here")
    return work.owner


def _cut(work: EmbeddingWork[LiveBackend]) -> None:
    request = _owner(work)
    work.cut(b"", (request.tokens,) * request.texts)


def _facts(engines: Sequence[EngineAt]) -> list[Backend]:
    """Engines as a routing table has them."""
    found = []
    for port, engine in enumerate(engines, start=1):
        role: Role = "llm" if isinstance(engine.engine, ChatEngine) else "embedding"
        found.append(
            Backend(
                instance=engine.name,
                uid=engine.name,
                role=role,
                engine="vllm",
                scheme="http",
                host="engine",
                port=port,
                prefix="",
                models=(MODELS[role],),
                limit=_LIMIT,
                device=engine.device,
            )
        )
    return found
