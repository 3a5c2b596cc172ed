"""The whole operator in one process: reflectors, queue, workers and prober on a fake API server."""

import asyncio
from dataclasses import replace

import httpx
import pytest

from crd_objects import group_object, instance_object
from kube_fake import FakeKube
from operator_running import SETTINGS, engine, idle, is_ready, play_until, running
from operator_waiting import until
from operator_world import KEY, World
from sagepool_crds import names
from sagepool_kube.api import INSTANCES, SERVICES
from sagepool_kube.errors import Unavailable
from sagepool_operator.config import LeaseName
from sagepool_operator.errors import OperatorError

SHARED = replace(SETTINGS, lease=LeaseName("sagepool-system", "operator"), lease_s=1)
"""Of one of several operators."""


class Overheard:
    """A KubeApi that notes which of its methods are asked for."""

    def __init__(self, kube: FakeKube) -> None:
        self._kube = kube
        self.methods: set[str] = set()

    def __getattr__(self, name: str) -> object:
        self.methods.add(name)
        return getattr(self._kube, name)


@pytest.fixture
def world() -> World:
    return World()


async def test_pool_becomes_ready_follows_its_spec_and_falls_silent(world: World) -> None:
    async with running(world.kube) as operator:
        world.apply_pool()
        await play_until(world, is_ready(world))
        world.edit_group("chat", replicas=3)
        await play_until(world, is_ready(world, "4/4"))
        await idle(operator)
        world.kube.calls.clear()
        for _ in range(5):
            operator.wake(KEY)
            await idle(operator)
        assert [call for call in world.kube.calls if call[0] != "watch"] == []


async def test_group_is_scaled_by_what_its_routers_report(world: World) -> None:
    in_flight = 0

    async def site(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/admin/demand":
            return await engine(request)
        assert request.url.port == 9090
        chat = {"group": "chat", "in_flight": in_flight, "capacity": 512, "idle_seconds": 0}
        return httpx.Response(
            200, json={"groups": [{**chat, "queued_requests": 0, "queued_texts": 0}]}
        )

    scaling = {"maxReplicas": 5, "target": {"inFlight": 10}}
    world.apply_pool(groups=[group_object(replicas=None, scaling=scaling)])
    async with running(world.kube, answer=site) as operator:
        await play_until(world, is_ready(world, "1/1"))
        in_flight = 15  # at each of the two routers
        await play_until(world, is_ready(world, "3/3"))
        await idle(operator)
        world.kube.calls.clear()
        operator.wake(KEY)
        await idle(operator)
        assert [call for call in world.kube.calls if call[0] != "watch"] == []


async def test_pool_that_is_there_at_the_start_is_taken_up(world: World) -> None:
    world.apply_pool()
    async with running(world.kube):
        await play_until(world, is_ready(world))


async def test_child_that_vanishes_while_the_watch_is_broken_comes_back(world: World) -> None:
    world.apply_pool()
    async with running(world.kube):
        await play_until(world, is_ready(world))
        world.kube.remove(SERVICES, "default", "rag-router")
        world.kube.compact()
        world.kube.break_watches()
        await play_until(world, lambda: bool(world.kube.all(SERVICES)))


async def test_outage_of_the_api_server_is_survived(world: World) -> None:
    world.apply_pool()
    async with running(world.kube) as operator:
        await play_until(world, is_ready(world))
        with world.kube.down():
            world.edit_group("chat", replicas=1)
            await until(lambda: bool(operator.health()["errors"]))
        await play_until(world, is_ready(world, "2/2"))
        assert operator.health()["errors"] == []


@pytest.mark.parametrize(
    ("fault", "passes_fail"),
    [
        (Unavailable("slow down", retry_after_s=0.0), False),
        (Unavailable("no answer in time"), True),
        (Unavailable("connection reset by peer"), True),
    ],
    ids=["throttles", "times out", "drops connections"],
)
async def test_a_server_that_serves_badly_only_delays(
    world: World, fault: Unavailable, passes_fail: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for verb in ("list", "watch", "get", "apply", "create"):
        world.kube.fail_next(verb, fault)
    world.apply_pool()
    async with running(world.kube) as operator:
        await play_until(world, is_ready(world))
        await idle(operator)
        assert operator.health()["errors"] == []
        world.kube.calls.clear()
        operator.wake(KEY)
        await idle(operator)
        assert [call for call in world.kube.calls if call[0] != "watch"] == []
    assert ("could not reconcile, trying again" in caplog.messages) is passes_fail


async def test_restarted_operator_changes_nothing_of_a_settled_pool(world: World) -> None:
    world.apply_pool()
    async with running(world.kube) as operator:
        await play_until(world, is_ready(world))
        await idle(operator)
    world.kube.calls.clear()
    async with running(world.kube) as operator:
        await play_until(world, lambda: operator.health()["lastSuccessfulReconcile"] is not None)
        await play_until(world, is_ready(world))
        await idle(operator)
    assert {call[0] for call in world.kube.calls} == {"list", "watch"}


async def test_of_two_operators_one_works_and_the_other_goes_on_when_it_stops(world: World) -> None:
    world.apply_pool()
    async with running(world.kube, SHARED) as first:
        await until(lambda: bool(first.health()["leading"]))
        async with running(world.kube, SHARED) as second:
            await play_until(world, is_ready(world))
            await until(lambda: bool(second.health()["synced"]))
            assert (first.health()["leading"], second.health()["leading"]) == (True, False)
            await first.stop()
            world.edit_group("chat", replicas=3)
            await play_until(world, is_ready(world, "4/4"))
            assert second.health()["leading"] is True


async def test_operator_that_does_not_lead_only_looks_and_asks_no_engine(world: World) -> None:
    world.apply_pool()
    async with running(world.kube, SHARED):
        await play_until(world, is_ready(world))
        asked: list[str] = []

        async def listen(request: httpx.Request) -> httpx.Response:
            asked.append(str(request.url))
            return await engine(request)

        overheard = Overheard(world.kube)
        async with running(overheard, SHARED, listen) as second:
            await until(lambda: bool(second.health()["synced"]))
            world.kube.put(INSTANCES, instance_object())
            await play_until(world, is_ready(world, "4/4"))
            assert second.health()["lastSuccessfulReconcile"] is None
        assert overheard.methods == {"list", "watch", "get"}
        assert asked == []


async def test_operator_that_has_lost_the_lease_works_on_when_it_is_back(world: World) -> None:
    world.apply_pool()
    async with running(world.kube, SHARED) as operator:
        await play_until(world, is_ready(world))
        with world.kube.down():
            await until(lambda: not operator.health()["leading"])
            world.edit_group("chat", replicas=1)
        await play_until(world, is_ready(world, "2/2"))
        assert operator.health()["leading"] is True


async def test_instance_written_before_its_pool_is_told_and_then_served(world: World) -> None:
    world.kube.put(INSTANCES, instance_object())

    def reason() -> str:
        status = world.kube.read(INSTANCES, "default", "elsewhere").get("status", {})
        ready = [c["reason"] for c in status.get("conditions", ()) if c["type"] == names.READY]
        return "".join(ready)

    async with running(world.kube):
        await play_until(world, lambda: reason() == "PoolNotFound")
        world.apply_pool()
        await play_until(world, lambda: reason() == "Ready")
        await play_until(world, is_ready(world, "4/4"))


async def test_health_tells_what_it_does(world: World) -> None:
    world.apply_pool()
    async with running(world.kube) as operator:
        assert operator.health()["synced"] is False
        await play_until(world, is_ready(world))
        health = operator.health()
        assert health["synced"] is True
        assert health["pools"] == 1
        assert health["lastSuccessfulReconcile"] is not None


async def test_part_that_ends_ends_the_operator(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class BrokenKube(FakeKube):
        async def list(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]  # broken on purpose
            raise TypeError("a bug")

    async with running(BrokenKube()) as operator:
        async with asyncio.timeout(10):
            await operator.failed.wait()
        with pytest.raises(OperatorError, match="has ended"):
            operator.health()
    assert "a part of the operator has ended" in caplog.text
