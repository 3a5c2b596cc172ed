"""Whatever happens, every accepted request ends exactly once and all charges go back."""

import random
from collections import Counter
from collections.abc import Mapping
from math import inf
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagepool_crds.pool import Role
from sagepool_router.scheduling.embedding_work import EmbeddingWork
from sagepool_router.scheduling.scheduler import QueueFullError
from sagepool_router.scheduling.settings import QueueLimits
from scheduling_world import EMBEDDER, LLM, Engine, EngineCall, EngineWork, World

POLICIES: Final = ("fifo", "priority", "slo_aware", "cost_optimized", "adaptive", "hybrid")
ALIAS: Final = "chat-alias"
EMBEDDING_PRIORITIES: Final = ("high", "normal", "low", "adaptive")
RATIOS: Final = (0.0, 0.3, 0.7, 1.0)
MODELS: Final[Mapping[str, Role]] = {LLM: "llm", ALIAS: "llm", EMBEDDER: "embedding"}
MOST_EVENTS: Final = 120


class History:
    """A random life of a scheduler, checked at every step."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.accepted: list[EngineWork] = []
        self.cancelled: set[EngineWork] = set()
        self.dropped: set[EngineWork] = set()
        self.done: Counter[EngineWork] = Counter()
        """How often each llm request ended; of embeddings, how many texts did."""
        self.tried: dict[EngineCall, tuple[Engine, ...]] = {}
        self.sent: dict[EngineWork, set[int]] = {}
        """Texts that have left, by request."""
        self.retired: list[Engine] = []
        choose = self.random.choice
        self.world = World(
            on_start=self.on_start,
            policy=choose(POLICIES),
            llm_policy=choose(POLICIES[:5]),
            embedding_batch_size=choose((1, 4, 32)),
            embedding_batch_tokens=choose((25, 16384)),
            max_embedding_wait_s=choose((0.0, 0.005, 0.2)),
            embedding_priority=choose(EMBEDDING_PRIORITIES),
            hybrid_instance_ratio=choose(RATIOS),
            queue=QueueLimits(max_requests=choose((0, 3, 40, 1000))),
        )
        self.change_table()

    def on_start(self, call: EngineCall) -> None:
        place = call.place
        assert place.kind == call.work.kind
        if call.reason != "divided":
            assert place in call.lane.placement.members, "placed where the model is not served"
            assert place.in_flight <= place.limit, "placed above the capacity"
            for piece in call.slices:
                seen = self.sent.setdefault(piece.work, set())
                own = set(range(piece.begin, piece.end))
                assert own, "an empty slice"
                assert not own & seen, "a text is sent twice"
                seen |= own
        if len({piece.work for piece in call.slices}) > 1:
            settings = self.world.settings
            assert len({piece.work.parameters for piece in call.slices}) == 1
            assert sum(p.end - p.begin for p in call.slices) <= settings.embedding_batch_size
        if self.random.random() < 0.05:
            self.end(call)  # refused at once

    # Events.

    def step(self) -> None:
        event = self.random.choices(
            (
                self.arrive,
                self.finish,
                self.answer,
                self.cancel,
                self.retry,
                self.divide,
                self.refuse,
                self.pass_time,
                self.resize,
                self.change_table,
                self.change_settings,
            ),
            (40, 25, 5, 5, 5, 2, 8, 10, 4, 2, 2),
        )[0]
        event()
        self.check()

    def arrive(self) -> None:
        choose = self.random.choice
        world = self.world
        model = choose(tuple(MODELS))
        flow = choose(("", "a", "b", str(self.random.random())))
        facts: dict[str, Any] = {
            "priority": choose((0, 1, 2, 3, 4)),
            "deadline_at": choose((inf, inf, world.clock.now + choose((0.1, 1.0, 10.0)))),
            "flow": flow,
            "weight": {"a": 0.5, "b": 4.0}.get(flow, 1.0),
            "budget": choose((inf, inf, inf, 0.0, 1e-4)),
        }
        lane = next((x for k, x in world.scheduler.lanes.items() if k[0] == model), None)
        if lane is None:
            return
        work: EngineWork
        if model == EMBEDDER:
            texts = choose((1, 1, 1, 2, 5, 40, 100))
            tokens = texts * choose((1, 10, 30))
            world.parameters = choose((b"x", b"x", b"y"))
            work = EmbeddingWork(
                "embedding", model, world.clock.now, texts=texts, tokens=tokens, **facts
            )
        else:
            affinity = choose((None, 1, 2))
            tokens = choose((1, 100, 5000))
            work = EngineWork(
                "llm", model, world.clock.now, tokens=tokens, affinity=affinity, **facts
            )
        self.accepted.append(work)
        try:
            world.scheduler.submit(lane, work)
        except QueueFullError:
            self.accepted.remove(work)
            self.check_refused(work)

    def finish(self) -> None:
        if self.world.calls:
            self.end(self.random.choice(self.world.calls))

    def end(self, call: EngineCall) -> None:
        if call.slices:
            for piece in call.slices:
                self.done[piece.work] += piece.end - piece.begin
        else:
            self.done[call.work] += 1
        self.world.finish(call)

    def answer(self) -> None:
        if self.world.calls:
            self.world.scheduler.answered(self.random.choice(self.world.calls))

    def cancel(self) -> None:
        if self.accepted:
            work = self.random.choice(self.accepted)
            is_waiting = work.state == "waiting"
            lane = next(
                (x for x in self.world.scheduler.lanes.values() if x.model == work.model), None
            )
            if lane is not None:
                self.world.scheduler.cancel(lane, work)
                if is_waiting:
                    self.cancelled.add(work)

    def retry(self) -> None:
        if self.world.calls:
            call = self.random.choice(self.world.calls)
            tried = (*self.tried.get(call, ()), call.place)
            self.tried[call] = tried
            if self.world.retry(call, tried):
                assert call.place not in tried
                assert call.place.in_flight <= call.place.limit

    def divide(self) -> None:
        calls = [call for call in self.world.calls if len(call.slices) > 1]
        if calls:
            call = self.random.choice(calls)
            self.world.calls.remove(call)
            self.world.scheduler.finished(call)
            middle = len(call.slices) // 2
            self.world.scheduler.divide(call, call.slices[:middle])
            self.world.scheduler.divide(call, call.slices[middle:])

    def refuse(self) -> None:
        """An engine is full: what is still wanted of a call waits again, or nothing changes."""
        if not self.world.calls:
            return
        call = self.random.choice(self.world.calls)
        wanted = [piece for piece in call.slices if piece.work.state != "done"]
        if call.slices and not wanted:
            return
        call.place.resize(self.random.choice((0, call.place.limit)))
        for piece in wanted:
            self.sent[piece.work] -= set(range(piece.begin, piece.end))
        self.tried.pop(call, None)
        if not self.world.refuse(call, wanted):
            for piece in wanted:
                self.sent[piece.work] |= set(range(piece.begin, piece.end))
            return
        for piece in call.slices:
            if piece not in wanted:
                self.done[piece.work] += piece.end - piece.begin

    def pass_time(self) -> None:
        self.world.pass_time(self.random.choice((0.001, 0.02, 0.3, 3.0)))

    def resize(self) -> None:
        if self.world.engines:
            self.random.choice(self.world.engines).resize(self.random.choice((0, 1, 2, 8)))

    def change_settings(self) -> None:
        choose = self.random.choice
        self.world.use(
            *self.world.engines,
            models=MODELS,
            policy=choose(POLICIES),
            embedding_priority=choose(EMBEDDING_PRIORITIES),
            hybrid_instance_ratio=choose(RATIOS),
            prefer_specialized_instances=choose((True, False)),
        )

    def change_table(self) -> None:
        kept = [engine for engine in self.world.engines if self.random.random() < 0.7]
        for _ in range(self.random.randrange(4)):
            kept.append(self.engine())
        for engine in kept:
            engine.is_specialized = not engine.device
        self.retired += [engine for engine in self.world.engines if engine not in kept]
        models = dict(MODELS)
        if self.random.random() < 0.1:
            del models[self.random.choice(tuple(models))]
        self.world.use(*kept, models=models)
        if self.random.random() < 0.5:
            self.dropped.update(self.world.scheduler.drop_unlisted())

    def engine(self) -> Engine:
        choose = self.random.choice
        return Engine(
            f"e{self.random.random()}",
            choose(("llm", "embedding")),
            limit=choose((0, 1, 2, 8)),
            device=choose(("", "", "gpu-1", "gpu-2")),
            price=choose((0.0, 1.0, 3.0)),
            tokens_per_s=choose((0.0, 10.0, 1000.0)),
            latency_s=choose((0.0, 0.5, 5.0)),
        )

    # What always holds.

    def check_refused(self, work: EngineWork) -> None:
        assert work.state == "new"
        assert not self.done[work]
        free = self.world.settings.queue.max_requests - self.world.scheduler.waiting
        lanes = self.world.scheduler.lanes.values()
        own = self.world.scheduler.lanes.of_flow(work.flow) if work.flow else 0
        model = max((len(x.queue) for x in lanes if x.model == work.model), default=0)
        assert free <= 0 or own > 3 * free or model > 8 * free, (
            "neither a flow's nor a model's share"
        )

    def check(self) -> None:
        world = self.world
        waiting = [work for work in self.accepted if work.state == "waiting"]
        assert world.scheduler.waiting == len(waiting)
        assert sum(len(lane.queue) for lane in world.scheduler.lanes.values()) == len(waiting)
        charged = Counter(call.place for call in world.calls)
        for engine in (*world.engines, *self.retired):
            assert engine.in_flight == charged[engine]
        for gpu in world.scheduler.gpus.values():
            calls = [call for call in world.calls if call.gpu is gpu]
            assert gpu.state.calls == sum(call.place.kind == "embedding" for call in calls)
            assert gpu.state.llm_unanswered <= sum(call.place.kind == "llm" for call in calls)
            assert gpu.state.may_start_llm or gpu.state.may_start_embedding
        for engine in world.engines:
            assert engine.is_open or engine.gpu is not None, "a gate that nobody opens"

    def drain(self) -> None:
        """Bring engines back and let everything end; nothing may be left."""
        world = self.world
        world.use(
            Engine("last-llm", limit=2),
            Engine("last-embedding", "embedding", limit=2),
            models=MODELS,
        )
        rounds = 0
        while world.calls or world.scheduler.waiting:
            rounds += 1
            assert rounds < 20 * MOST_EVENTS, "something waits although engines are free"
            for call in tuple(world.calls):
                if call in world.calls:
                    self.end(call)
            world.pass_time(0.25)
        self.check()
        for work in self.accepted:
            ended = self.done[work]
            if work in self.cancelled or work in self.dropped:
                assert work.state == "done"
                assert ended < max(1, work.texts)
                assert isinstance(work, EmbeddingWork) or not ended
            else:
                assert work.state == "placed"
                assert ended == (work.texts if isinstance(work, EmbeddingWork) else 1)
        assert set(self.done) <= set(self.accepted)
        for lane in world.scheduler.lanes.values():
            assert (len(lane.queue), lane.shares.flows, lane.queue.deadlines) == (0, 0, 0)
            assert not lane.queue.priorities
            assert not len(lane.companies)


@pytest.mark.parametrize("part", range(4), ids="part {}".format)
@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(st.integers(0, 2**32), st.integers(1, MOST_EVENTS))
def test_every_accepted_request_ends_once_and_all_charges_go_back(
    part: int, seed: int, events: int
) -> None:
    history = History(4 * seed + part)
    for _ in range(events):
        history.step()
    history.drain()
