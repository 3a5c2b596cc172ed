"""Instances of a file get their status from probes: quick to notice, slow to give up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from engine_answers import PlayedEngines
from kube_world import until
from router_app_objects import named_instance
from sagepool_crds.instance import InferenceInstance
from sagepool_engines.probe import FACTS_EVERY
from sagepool_router.sources.prober import (
    FAILURES_TO_UNREADY,
    READY_INTERVAL_S,
    READY_PROBES_PER_S,
    UNREADY_INTERVAL_S,
    Prober,
)


class Pace:
    """Sleeps that end when the test says so; their lengths are kept."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._steps = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self._steps.acquire()

    async def step(self) -> None:
        """Let one sleep end and wait for the next one to begin."""
        count = len(self.asked)
        self._steps.release()
        await until(lambda: len(self.asked) > count)


class Engine:
    """What the engines of the test answer; requests are kept."""

    def __init__(self) -> None:
        self.health: int | type[httpx.HTTPError] = 200
        self.model = "qwen2.5-7b"
        self.paths: list[str] = []
        self.adapters: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        if not isinstance(self.health, int):
            raise self.health("told to")
        bodies = {
            "/v1/models": {"data": [{"id": self.model}, *map(_adapter, self.adapters)]},
            "/v1/embeddings": {"data": [{"embedding": [0.6, 0.8]}]},
        }
        if request.url.path == "/health":
            return httpx.Response(self.health)
        if request.url.path in bodies:
            return httpx.Response(200, json=bodies[request.url.path])
        return httpx.Response(200, text="")


def _adapter(name: str) -> dict[str, str]:
    return {"id": name, "root": f"acme/{name}", "parent": "qwen2.5-7b"}


class Probing:
    """A prober over one instance, stepped by the test."""

    def __init__(self, engine: Engine, prober: Prober, pace: Pace, changes: list[None]) -> None:
        self.engine, self.prober, self.pace, self.changes = engine, prober, pace, changes

    def phase(self, instance: InferenceInstance) -> str:
        return self.prober.with_status(instance).status.phase


def parse(url: str = "http://10.0.0.7:8000", role: str = "llm") -> InferenceInstance:
    endpoints = [{"role": role, "url": url, "models": ["qwen2.5-7b"]}]
    return InferenceInstance.from_object(named_instance("a", endpoints=endpoints))


@asynccontextmanager
async def probing(instance: InferenceInstance) -> AsyncIterator[Probing]:
    """Yield after the first probe."""
    engine, pace, changes = Engine(), Pace(), []
    stop = asyncio.Event()
    started: asyncio.Future[Prober] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            http = PlayedEngines(engine.answer)
            prober = Prober(http, group, lambda: changes.append(None), sleep=pace.sleep)
            prober.follow([instance])
            started.set_result(prober)
            await stop.wait()
            prober.follow([])

    task = asyncio.create_task(run())
    prober = await started
    await until(lambda: bool(pace.asked))
    try:
        yield Probing(engine, prober, pace, changes)
    finally:
        stop.set()
        await task


async def test_an_engine_that_answers_is_ready_and_then_seldom_asked():
    instance = parse()
    async with probing(instance) as found:
        assert found.phase(instance) == "Ready"
        assert found.pace.asked == [READY_INTERVAL_S]
        await found.pace.step()
        assert len(found.changes) == 1


async def test_many_engines_are_asked_at_longer_intervals():
    pace = Pace()
    instances = [
        instance.model_copy(
            update={"metadata": instance.metadata.model_copy(update={"name": f"engine-{n}"})}
        )
        for instance in [parse()]
        for n in range(300)
    ]
    async with asyncio.TaskGroup() as group:
        prober = Prober(PlayedEngines(Engine().answer), group, lambda: None, sleep=pace.sleep)
        prober.follow(instances)
        await until(lambda: len(pace.asked) == 300)
        prober.follow([])
    assert set(pace.asked) == {300 / READY_PROBES_PER_S}


async def test_before_its_first_probe_an_instance_is_pending():
    instance = parse()
    async with probing(instance) as found:
        other = instance.model_copy(
            update={"metadata": instance.metadata.model_copy(update={"name": "b"})}
        )
        assert found.phase(other) == "Pending"


async def test_an_engine_that_fails_once_or_twice_stays_ready_but_is_asked_soon():
    instance = parse()
    async with probing(instance) as found:
        found.engine.health = 503
        for _ in range(FAILURES_TO_UNREADY - 1):
            await found.pace.step()
            assert found.phase(instance) == "Ready"
            assert found.pace.asked[-1] == UNREADY_INTERVAL_S
        found.engine.health = 200
        await found.pace.step()
        assert found.pace.asked[-1] == READY_INTERVAL_S


async def test_three_failures_in_a_row_take_it_out_until_it_answers_again():
    instance = parse()
    async with probing(instance) as found:
        found.engine.health = 503
        for _ in range(FAILURES_TO_UNREADY):
            await found.pace.step()
        assert found.phase(instance) == "Failed"
        assert "answers 503" in found.prober.with_status(instance).status.message
        found.engine.health = 200
        await found.pace.step()
        assert found.phase(instance) == "Ready"


async def test_a_refused_connection_takes_it_out_at_once(unused_tcp_port: int):
    instance = parse(f"http://127.0.0.1:{unused_tcp_port}")
    async with probing(instance) as found:
        assert found.phase(instance) == "Ready"
        found.engine.health = httpx.ConnectError
        await found.pace.step()
        assert found.phase(instance) == "Failed"


async def test_a_time_out_is_no_refused_connection(engine_port: int):
    instance = parse(f"http://127.0.0.1:{engine_port}")
    async with probing(instance) as found:
        found.engine.health = httpx.ReadTimeout
        await found.pace.step()
        assert found.phase(instance) == "Ready"


async def test_an_embedding_is_asked_for_once_while_it_is_ready():
    instance = parse(role="embedding")
    async with probing(instance) as found:
        await found.pace.step()
        await found.pace.step()
        assert found.engine.paths.count("/v1/embeddings") == 1
        assert found.engine.paths.count("/health") == 3


async def test_an_engine_that_stays_ready_is_asked_for_its_models_from_time_to_time():
    instance = parse()
    async with probing(instance) as found:
        for _ in range(FACTS_EVERY - 1):
            await found.pace.step()
        assert found.engine.paths.count("/v1/models") == 1
        found.engine.model = "another"
        for _ in range(FAILURES_TO_UNREADY):
            await found.pace.step()
        assert "serves another, not qwen2.5-7b" in found.prober.with_status(instance).status.message
        assert found.phase(instance) == "Failed"


async def test_what_embeddings_are_like_is_kept_from_the_one_that_was_asked_for():
    instance = parse(role="embedding")
    async with probing(instance) as found:
        await found.pace.step()
        found.engine.health = 503
        await found.pace.step()
        model = found.prober.with_status(instance).status.model
        assert model is not None
        assert (model.dimension, model.norm) == (2, 1.0)


async def test_a_new_address_is_probed_anew():
    instance = parse()
    async with probing(instance) as found:
        moved = parse("http://10.0.0.8:8000")
        found.prober.follow([moved])
        assert found.phase(moved) == "Pending"
        await until(lambda: found.phase(moved) == "Ready")


async def test_the_transition_time_stays_while_the_reason_changes():
    instance = parse()
    async with probing(instance) as found:
        found.engine.health = 503
        for _ in range(FAILURES_TO_UNREADY):
            await found.pace.step()
        before = found.prober.with_status(instance).status
        found.engine.health = httpx.ReadTimeout
        await found.pace.step()
        after = found.prober.with_status(instance).status
        assert after.message != before.message
        assert [c.last_transition_time for c in after.conditions] == [
            c.last_transition_time for c in before.conditions
        ]


@pytest.fixture
async def engine_port() -> AsyncIterator[int]:
    """Somebody listens there."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def test_adapters_that_an_engine_has_are_found_and_missed_when_they_are_gone():
    instance = parse()
    async with probing(instance) as found:

        def adapters() -> list[tuple[str, str]]:
            status = found.prober.with_status(instance).status
            return [(adapter.name, adapter.phase) for adapter in status.adapters]

        assert adapters() == []
        found.engine.adapters = ["bot", "coder"]
        for _ in range(FACTS_EVERY):
            await found.pace.step()
        assert adapters() == [("bot", "Loaded"), ("coder", "Loaded")]
        found.engine.adapters = ["coder"]
        for _ in range(FACTS_EVERY):
            await found.pace.step()
        assert adapters() == [("coder", "Loaded")]
        assert len(found.changes) == 3
        found.engine.health = 503
        for _ in range(FAILURES_TO_UNREADY):
            await found.pace.step()
        assert adapters() == []
