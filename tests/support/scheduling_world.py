"""A pool for the scheduler without engines: instances that only count, and time moved by hand."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sagepool_crds.pool import Role
from sagepool_router.picker import Seat
from sagepool_router.scheduling.embedding_work import EmbeddingWork, Slice
from sagepool_router.scheduling.lane import Lane
from sagepool_router.scheduling.placement import latency_class
from sagepool_router.scheduling.scheduler import Call, Instance, Scheduler
from sagepool_router.scheduling.settings import SchedulingSettings
from sagepool_router.scheduling.work import Work
from simulator_clock import ManualClock


class Engine(Instance):
    """An instance that knows its load and nothing else."""

    def __init__(
        self,
        name: str,
        kind: Role = "llm",
        *,
        limit: int = 256,
        device: str = "",
        is_specialized: bool = True,
        price: float = 0.0,
        tokens_per_s: float = 0.0,
        latency_s: float = 0.0,
    ) -> None:
        super().__init__(name, kind, limit)
        self.device = device
        self.is_specialized = is_specialized and not device
        self.price_per_hour = price
        self.tokens_per_s = tokens_per_s
        self.latency_s = latency_s
        self.latency_class = latency_class(latency_s)
        self.limit = limit
        self.is_open = True

    def __repr__(self) -> str:
        return self.name

    def open_gate(self, is_open: bool) -> None:
        self.is_open = is_open
        self.resize(self.limit)

    def resize(self, capacity: int) -> None:
        """It takes so many calls now, if its gate is open; 0: it is out."""
        self.limit = capacity
        super().resize(capacity if self.is_open else 0)


EngineCall = Call[Engine]
EngineLane = Lane[Engine]
EngineWork = Work[Engine]

LLM = "chat"
EMBEDDER = "embedder"


class World:
    """A scheduler with its engines; calls end when the test says so."""

    def __init__(
        self, *engines: Engine, on_start: Callable[[EngineCall], None] | None = None, **changes: Any
    ) -> None:
        self.clock = ManualClock()
        self.settings = replace(SchedulingSettings(), **changes)
        self.calls: list[EngineCall] = []
        """Under way, in the order in which they were started."""
        self.history: list[EngineCall] = []
        """All that were ever started."""
        self.parameters = b"{}"
        self.cut_error: Exception | None = None
        self.on_start = on_start
        self.scheduler: Scheduler[Engine] = Scheduler(
            self.settings,
            start=self._start,
            cut=self._cut,
            clock=self.clock.time,
            random=random.Random(5).random,
            call_later=self.clock.call_later,
        )
        self.engines: tuple[Engine, ...] = ()
        self.use(*engines)

    # The table.

    def use(
        self,
        *engines: Engine,
        models: Mapping[str, Role] | None = None,
        only: Mapping[str, Sequence[Engine]] | None = None,
        **changes: Any,
    ) -> None:
        """A new table: these engines, each for all models of its kind, or `only` these for one."""
        self.settings = replace(self.settings, **changes)
        found: Mapping[str, Role] = models or {LLM: "llm", EMBEDDER: "embedding"}
        for engine in self.engines:
            if engine not in engines:
                engine.seats = ()
                engine.resize(0)
        self.engines = engines
        gpus: dict[str, list[Engine]] = {}
        for engine in engines:
            if engine.device:
                gpus.setdefault(engine.device, []).append(engine)
        lanes = {
            (model, kind): (only or {}).get(model, [e for e in engines if e.kind == kind])
            for model, kind in found.items()
        }
        placements = self.scheduler.swap(self.settings, lanes, gpus)
        seats: dict[Engine, list[Seat[Engine]]] = {engine: [] for engine in engines}
        for placement in {id(p): p for p in placements.values()}.values():
            for seat in placement.seats():
                seats[seat.member].append(seat)
        for engine, own in seats.items():
            engine.seats = tuple(own)
        self.scheduler.resume()

    def lane(self, model: str) -> EngineLane:
        return next(lane for key, lane in self.scheduler.lanes.items() if key[0] == model)

    # Work.

    def chat(self, name: str = "", *, model: str = LLM, **facts: Any) -> EngineWork:
        """A chat that arrives now and is submitted."""
        work: EngineWork = Work("llm", model, self.clock.now, **facts)
        work.owner = name
        self.scheduler.submit(self.lane(model), work)
        return work

    def embed(self, texts: int = 1, name: str = "", **facts: Any) -> EmbeddingWork[Engine]:
        """An embedding request of so many texts of ten tokens."""
        facts = {"tokens": 10 * texts, **facts}
        work: EmbeddingWork[Engine] = EmbeddingWork(
            "embedding", EMBEDDER, self.clock.now, texts=texts, **facts
        )
        work.owner = name
        self.scheduler.submit(self.lane(EMBEDDER), work)
        return work

    def retry(self, call: EngineCall, tried: Sequence[Engine]) -> bool:
        """Move a call that failed to another engine; False when none has room for it."""
        choice = self.scheduler.alternative(call, tried)
        if choice is not None:
            self.scheduler.move(call, choice)
        return choice is not None

    def refuse(self, call: EngineCall, slices: Sequence[Slice[Engine]] | None = None) -> bool:
        """Its engine has no room for a call: it waits again, or these texts of it do."""
        if not self.scheduler.requeue(call, call.slices if slices is None else slices):
            return False
        self.finish(call)
        return True

    def finish(self, call: EngineCall | None = None) -> EngineCall:
        """End a call, the oldest if none is named."""
        call = call or self.calls[0]
        self.calls.remove(call)
        self.scheduler.finished(call)
        return call

    def finish_all(self) -> None:
        """End calls, the oldest first, until none is left and nothing has come after them."""
        while self.calls:
            self.finish()

    def order(self) -> list[object]:
        """The names of the requests in the order in which they are started, one by one."""
        self.finish_all()
        names: list[object] = []
        for call in self.history:
            pieces: Sequence[Slice[Engine]] = call.slices
            names += [piece.work.owner for piece in pieces] or [call.work.owner]
        return names

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with the sweeps that come with it."""
        end = self.clock.now + seconds
        while self.clock.now < end - 1e-9:
            self.clock.advance(min(0.25, end - self.clock.now))
            self.scheduler.sweep()

    def _start(self, call: EngineCall) -> None:
        self.calls.append(call)
        self.history.append(call)
        if self.on_start is not None:
            self.on_start(call)

    def _cut(self, work: EmbeddingWork[Engine]) -> None:
        if self.cut_error is not None:
            raise self.cut_error
        work.cut(self.parameters, tuple([work.tokens // work.texts] * work.texts))


def engines(count: int, kind: Role = "llm", **facts: Any) -> list[Engine]:
    """Equal ones."""
    return [Engine(f"{kind}-{number}", kind, **facts) for number in range(count)]


def texts_of(call: EngineCall) -> int:
    """How many it carries."""
    return sum(piece.end - piece.begin for piece in call.slices)


def loads(members: Iterable[Engine]) -> list[int]:
    """What each has in flight."""
    return [member.in_flight for member in members]
