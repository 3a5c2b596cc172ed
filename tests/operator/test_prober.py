"""Probing over real sockets."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing

import pytest

from crd_objects import mixed_group_object
from operator_engine import StubEngine
from operator_waiting import until
from operator_world import IMAGES, KEY, NOW
from sagepool_crds.instance import Endpoint
from sagepool_crds.meta import PoolKey
from sagepool_crds.pool import Group, Role
from sagepool_operator.config import ProbeIntervals
from sagepool_operator.engine_session import EngineSession
from sagepool_operator.engines.catalog import build_engine
from sagepool_operator.plan import Target
from sagepool_operator.prober import Prober
from sagepool_operator.reports import Report
from simulator_process import simulator

FAST = ProbeIntervals(starting_s=0.01, ready_s=0.02, timeout_s=0.2, failures=3)


class Wakes(list[PoolKey]):
    """Pools that were woken."""


@pytest.fixture
def wakes() -> Wakes:
    return Wakes()


@pytest.fixture
async def prober(wakes: Wakes) -> AsyncIterator[Prober]:
    async with aclosing(EngineSession(FAST.timeout_s)) as http:
        prober = Prober(http, FAST, wakes.append, now=lambda: NOW)
        yield prober
        await prober.close()


@pytest.fixture
async def engine() -> AsyncIterator[StubEngine]:
    engine = StubEngine()
    async with engine.serve():
        yield engine


def target(engine: StubEngine, role: Role = "llm", incarnation: str = "1") -> Target:
    endpoint = Endpoint(role=role, url=engine.url, models=["m"])
    return Target("default", "chat-0", "uid", incarnation, "vllm", (endpoint,))


def report(prober: Prober, wanted: Target) -> Report | None:
    return prober.reports(KEY).get(wanted.key)


def is_ready(prober: Prober, wanted: Target) -> bool:
    found = report(prober, wanted)
    return found is not None and found.is_ready


async def asked_again(engine: StubEngine) -> None:
    """Wait for a few more probes of it."""
    before = len(engine.requests)
    await until(lambda: len(engine.requests) > before + 3)


async def test_ready_engine_is_reported_and_wakes_its_pool(
    prober: Prober, engine: StubEngine, wakes: Wakes
) -> None:
    prober.track(KEY, [target(engine)])
    await until(lambda: is_ready(prober, target(engine)))
    assert wakes == [KEY]


async def test_what_does_not_change_wakes_nobody(
    prober: Prober, engine: StubEngine, wakes: Wakes
) -> None:
    prober.track(KEY, [target(engine)])
    await until(lambda: engine.requests.count("/health") > 3)
    assert wakes == [KEY]
    engine.running = 1
    await until(lambda: len(wakes) == 2)


async def test_embedding_is_asked_for_once(prober: Prober, engine: StubEngine) -> None:
    wanted = target(engine, "embedding")
    prober.track(KEY, [wanted])
    await until(lambda: engine.requests.count("/health") > 3)
    assert engine.requests.count("/v1/embeddings") == 1
    found = report(prober, wanted)
    assert found is not None
    assert found.space is not None
    assert found.space.dimension == 3


def mixed(chat: StubEngine, embed: StubEngine) -> Target:
    endpoints = (
        Endpoint(role="embedding", url=embed.url, models=["e"]),
        Endpoint(role="llm", url=chat.url, models=["m"]),
    )
    return Target("default", "mixed-0", "uid", "1", "vllm", endpoints)


async def test_both_endpoints_of_an_engine_are_probed_and_its_load_is_counted_once(
    prober: Prober, engine: StubEngine
) -> None:
    engine.models, engine.running, engine.max_model_len = ("m", "e"), 3, 512
    wanted = mixed(engine, engine)
    prober.track(KEY, [wanted])
    await until(lambda: is_ready(prober, wanted))
    found = report(prober, wanted)
    assert found is not None
    assert found.load is not None
    assert found.space is not None
    assert (found.space.dimension, found.max_model_len, found.load.running) == (3, 512, 3)
    assert engine.requests.count("/v1/embeddings") == 1


async def test_endpoints_at_two_addresses_have_a_load_each(
    prober: Prober, engine: StubEngine
) -> None:
    other = StubEngine(models=("e",), running=1, max_model_len=512)
    engine.running, engine.max_model_len = 2, 8192
    async with other.serve():
        wanted = mixed(engine, other)
        prober.track(KEY, [wanted])
        await until(lambda: is_ready(prober, wanted))
        found = report(prober, wanted)
        assert found is not None
        assert found.load is not None
        # The length that counts is the chat model's: only there does an answer follow.
        assert found.space is not None
        assert (found.space.dimension, found.max_model_len, found.load.running) == (3, 8192, 3)
        await prober.close()


@pytest.mark.parametrize("leaver", [0, 1], ids=["chat", "embeddings"])
async def test_instance_of_two_processes_is_lost_when_either_is(
    prober: Prober, leaver: int
) -> None:
    engines = (StubEngine(), StubEngine(models=("e",)))
    async with AsyncExitStack() as others, AsyncExitStack() as leaving:
        for place, engine in enumerate(engines):
            stack = leaving if place == leaver else others
            await stack.enter_async_context(engine.serve())
        wanted = mixed(*engines)
        prober.track(KEY, [wanted])
        await until(lambda: is_ready(prober, wanted))
        gone = engines[leaver].url
        await leaving.aclose()
        await until(lambda: not is_ready(prober, wanted))
        found = report(prober, wanted)
        assert found is not None
        assert gone in found.message
        await prober.close()


async def test_simulator_of_a_mixed_group_is_ready_for_both_models(prober: Prober) -> None:
    group = Group.model_validate(mixed_group_object())
    args = build_engine(group, IMAGES).args
    theirs = [a for a in args if not a.startswith(("--host=", "--port="))]
    async with simulator(*theirs, "--dimension=8") as url:
        endpoints = tuple(
            Endpoint(role=role, url=url, models=[model.name]) for role, model in group.served
        )
        wanted = Target("default", "mixed-0", "uid", "1", "simulator", endpoints)
        prober.track(KEY, [wanted])
        await until(lambda: report(prober, wanted) is not None)
        found = report(prober, wanted)
        assert found is not None
        assert found.space is not None
        assert (found.verdict, found.space.dimension) == ("EngineReady", 8)
        await prober.close()


@pytest.mark.parametrize(("models", "missing"), [(("m",), "e"), (("e",), "m")])
async def test_engine_that_lacks_one_of_its_models_is_not_ready(
    prober: Prober, engine: StubEngine, models: tuple[str, ...], missing: str
) -> None:
    engine.models = models
    wanted = mixed(engine, engine)
    prober.track(KEY, [wanted])
    await until(lambda: report(prober, wanted) is not None)
    found = report(prober, wanted)
    assert found is not None
    assert found.verdict == "ModelNotServed"
    assert f"not {missing}" in found.message


async def test_engine_that_is_still_loading_becomes_ready(
    prober: Prober, engine: StubEngine
) -> None:
    engine.health = 503
    prober.track(KEY, [target(engine)])
    await until(lambda: report(prober, target(engine)) is not None)
    assert not is_ready(prober, target(engine))
    engine.health = 200
    await until(lambda: is_ready(prober, target(engine)))


async def test_slow_engine_is_lost_only_after_three_probes(
    prober: Prober, engine: StubEngine
) -> None:
    prober.track(KEY, [target(engine)])
    await until(lambda: is_ready(prober, target(engine)))
    engine.is_stalled = True
    engine.requests.clear()
    await until(lambda: not is_ready(prober, target(engine)))
    assert engine.requests.count("/health") == 3
    found = report(prober, target(engine))
    assert found is not None
    assert (found.verdict, found.was_ready) == ("Unreachable", True)


async def test_refused_connection_needs_no_second_probe(prober: Prober, wakes: Wakes) -> None:
    engine = StubEngine()
    async with AsyncExitStack() as listening:
        await listening.enter_async_context(engine.serve())
        wanted = target(engine)
        prober.track(KEY, [wanted])
        await until(lambda: is_ready(prober, wanted))
    seen: list[int] = []

    def is_lost() -> bool:
        found = report(prober, wanted)
        seen.append(found.failures if found is not None else 0)
        return found is not None and not found.is_ready

    await until(is_lost)
    assert set(seen) == {0}
    assert wakes == [KEY, KEY]


async def test_engine_that_is_no_target_is_left_alone(prober: Prober, engine: StubEngine) -> None:
    other = StubEngine()
    async with other.serve():
        prober.track(PoolKey("default", "other"), [target(other)])
        prober.track(KEY, [target(engine)])
        await until(lambda: is_ready(prober, target(engine)))
        prober.track(KEY, [])
        assert prober.reports(KEY) == {}
        await asked_again(other)  # what was under way has come by then
        count = len(engine.requests)
        await asked_again(other)
        assert len(engine.requests) == count


async def test_new_incarnation_starts_from_nothing(prober: Prober, engine: StubEngine) -> None:
    prober.track(KEY, [target(engine)])
    await until(lambda: is_ready(prober, target(engine)))
    again = target(engine, incarnation="2")
    prober.track(KEY, [again])
    assert prober.reports(KEY) == {}
    await until(lambda: is_ready(prober, again))


async def test_one_pools_targets_do_not_disturb_anothers(
    prober: Prober, engine: StubEngine
) -> None:
    prober.track(KEY, [target(engine)])
    prober.track(PoolKey("default", "other"), [])
    await until(lambda: is_ready(prober, target(engine)))
