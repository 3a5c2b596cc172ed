"""The table follows the API server, and stays when that goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from crd_objects import pool_object
from kube_fake import FakeKube
from kube_world import until
from router_app_objects import Tables, named_instance, ready
from sagepool_crds.meta import PoolKey
from sagepool_kube.api import INSTANCES, POOLS
from sagepool_kube.errors import Unavailable
from sagepool_router.sources.kubernetes import KubernetesSource
from sagepool_router.sources.publisher import TablePublisher

KEY = PoolKey("default", "rag")


class Following:
    """A source that runs, and what came of it."""

    def __init__(self, api: FakeKube) -> None:
        self.tables = Tables()
        self.publisher = TablePublisher(self.tables.swap, lambda: 1.0)
        self.source = KubernetesSource(api, KEY, self.publisher)

    async def until_routable(self, *names: str) -> None:
        await until(lambda: self.tables.routable() == list(names))


@asynccontextmanager
async def following(api: FakeKube) -> AsyncIterator[Following]:
    found = Following(api)
    task = asyncio.create_task(found.source.run())
    try:
        yield found
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def api() -> FakeKube:
    fake = FakeKube()
    fake.put(POOLS, pool_object())
    return fake


async def test_pool_and_ready_instances_become_a_table(api: FakeKube):
    api.put(INSTANCES, ready(named_instance("a")))
    api.put(INSTANCES, named_instance("b"))
    async with following(api) as found:
        await found.until_routable("a")
        assert [view.name for view in found.tables.last.instances] == ["a", "b"]
        assert {"qwen2.5-7b", "gpt-4o-mini", "bge-m3"} == set(found.tables.last.models)


async def test_only_the_pools_own_namespace_and_instances_are_read(api: FakeKube):
    other = named_instance("other", poolRef="other")
    elsewhere = named_instance("elsewhere")
    elsewhere["metadata"]["namespace"] = "elsewhere"
    api.put(INSTANCES, ready(other))
    api.put(INSTANCES, ready(elsewhere))
    api.put(INSTANCES, ready(named_instance("a")))
    async with following(api) as found:
        await found.until_routable("a")
        assert len(found.tables.last.instances) == 1


async def test_changes_reach_the_table_as_they_come(api: FakeKube):
    async with following(api) as found:
        api.put(INSTANCES, ready(named_instance("a")))
        await found.until_routable("a")
        api.put(INSTANCES, ready(named_instance("b")))
        await found.until_routable("a", "b")

        def drain(obj: dict[str, Any]) -> None:
            obj["spec"]["drain"] = True

        api.edit(INSTANCES, "default", "a", drain)
        await found.until_routable("b")
        api.remove(INSTANCES, "default", "b")
        await found.until_routable()


async def test_a_burst_of_changes_is_few_tables(api: FakeKube):
    async with following(api) as found:
        await until(lambda: bool(found.tables.all))
        for number in range(50):
            api.put(INSTANCES, ready(named_instance(f"i{number:02}")))
        await until(lambda: len(found.tables.routable()) == 50)
        assert len(found.tables.all) <= 5


async def test_a_change_of_load_alone_makes_no_table(api: FakeKube):
    api.put(INSTANCES, ready(named_instance("a")))
    async with following(api) as found:
        await found.until_routable("a")

        def load(obj: dict[str, Any]) -> None:
            sampled = "2026-01-01T00:00:00Z"
            obj["status"]["load"] = {
                "running": 3, "waiting": 1, "kvCacheUsage": 0.5, "sampledAt": sampled,
            }  # fmt: skip

        count = len(found.tables.all)
        api.edit(INSTANCES, "default", "a", load)
        api.put(INSTANCES, ready(named_instance("b")))
        await found.until_routable("a", "b")
        assert found.tables.last.version == count + 1


async def test_the_last_table_stays_while_the_api_server_is_away(api: FakeKube):
    api.put(INSTANCES, ready(named_instance("a")))
    async with following(api) as found:
        await found.until_routable("a")
        with api.down():
            await until(lambda: not found.source.status().is_connected)
            status = found.source.status()
            assert "connection refused" in status.error
            assert found.tables.routable() == ["a"]
            api.remove(INSTANCES, "default", "a")
        await found.until_routable()
        await until(lambda: found.source.status().is_connected)
        assert found.source.status().error == ""


async def test_it_starts_without_an_api_server_and_says_so(api: FakeKube):
    with api.down(Unavailable("no route to host")):
        async with following(api) as found:
            await until(lambda: "no route to host" in found.source.status().error)
            assert not found.publisher.has_table


async def test_a_pool_that_does_not_exist_is_named(api: FakeKube):
    api.remove(POOLS, "default", "rag")
    async with following(api) as found:
        await until(lambda: bool(found.source.status().problems))
        (problem,) = found.source.status().problems
        assert problem == "there is no InferencePool default/rag: create it"
        assert not found.publisher.has_table
        api.put(POOLS, pool_object())
        await until(lambda: found.publisher.has_table)
        assert found.source.status().problems == ()


async def test_a_pool_that_is_deleted_keeps_its_table(api: FakeKube):
    api.put(INSTANCES, ready(named_instance("a")))
    async with following(api) as found:
        await found.until_routable("a")
        api.remove(POOLS, "default", "rag")
        await until(lambda: bool(found.source.status().problems))
        assert found.tables.routable() == ["a"]


async def test_an_instance_that_cannot_be_read_is_ignored_and_named(
    api: FakeKube, caplog: pytest.LogCaptureFixture
):
    api.put(INSTANCES, ready(named_instance("bad", "ftp://10.0.0.7")))
    api.put(INSTANCES, ready(named_instance("good")))
    async with following(api) as found:
        await found.until_routable("good")
        (problem,) = found.source.status().problems
        assert problem.startswith("InferenceInstance bad is ignored: spec.endpoints.0.url")
        api.break_watches(Unavailable("reset"))
        api.compact()  # so that everything is listed once more
        api.put(INSTANCES, ready(named_instance("late")))
        await found.until_routable("good", "late")
        logged = [r for r in caplog.records if "object ignored" in r.message]
        assert len(logged) == 1
        api.remove(INSTANCES, "default", "bad")
        await until(lambda: found.source.status().problems == ())
