"""The cache shows our own writes at once, and never what is gone."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from crd_objects import pool_object
from kube_fake import FakeKube
from operator_waiting import until
from operator_world import KEY
from sagepool_crds import names
from sagepool_crds.meta import PoolKey
from sagepool_kube.api import POOLS, SERVICES
from sagepool_operator.cache import ReflectedCache


def service(name: str = "rag-router", pool: str = "rag", **content: Any) -> dict[str, Any]:
    labels = {names.POOL_LABEL: pool}
    return {"metadata": {"name": name, "namespace": "default", "labels": labels}, **content}


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
def woken() -> list[PoolKey]:
    return []


@pytest.fixture
def cache(kube: FakeKube, woken: list[PoolKey]) -> ReflectedCache:
    return ReflectedCache(kube, None, woken.append, time.monotonic)


@pytest.fixture
async def synced(cache: ReflectedCache) -> AsyncIterator[ReflectedCache]:
    task = asyncio.create_task(cache.run())
    await cache.wait_until_synced()
    yield cache
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def shown(cache: ReflectedCache) -> list[str]:
    return [obj["metadata"]["name"] for _, obj in cache.children(KEY)]


async def test_changes_are_shown_and_wake_the_pool(
    synced: ReflectedCache, kube: FakeKube, woken: list[PoolKey]
) -> None:
    kube.put(SERVICES, service())
    await until(lambda: shown(synced) == ["rag-router"])
    assert woken == [KEY]
    kube.remove(SERVICES, "default", "rag-router")
    await until(lambda: shown(synced) == [])


async def test_object_that_changes_its_pool_wakes_both(
    synced: ReflectedCache, kube: FakeKube, woken: list[PoolKey]
) -> None:
    kube.put(SERVICES, service())
    await until(lambda: shown(synced) == ["rag-router"])
    woken.clear()
    kube.put(SERVICES, service(pool="other"))
    await until(lambda: shown(synced) == [])
    assert set(woken) == {KEY, PoolKey("default", "other")}


async def test_our_write_is_shown_before_the_watch_shows_it(
    cache: ReflectedCache, kube: FakeKube
) -> None:
    cache.note(SERVICES, kube.put(SERVICES, service()))
    assert shown(cache) == ["rag-router"]


async def test_older_news_does_not_hide_our_write(synced: ReflectedCache, kube: FakeKube) -> None:
    kube.put(SERVICES, service(spec={"n": 1}))
    newer = kube.put(SERVICES, service(spec={"n": 2}))
    synced.note(SERVICES, newer)
    await until(lambda: kube.delivered >= kube.version)
    ((_, obj),) = synced.children(KEY)
    assert obj["spec"] == {"n": 2}


async def test_write_that_was_undone_unseen_is_forgotten_with_the_next_list(
    synced: ReflectedCache, kube: FakeKube, woken: list[PoolKey]
) -> None:
    ours = kube.put(SERVICES, service())
    kube.remove(SERVICES, "default", "rag-router")
    kube.compact()
    synced.note(SERVICES, ours)
    assert shown(synced) == ["rag-router"]
    await until(lambda: shown(synced) == [])
    assert woken == [KEY, KEY]


async def test_a_pool_is_woken_once_by_a_write_of_ours_and_not_by_its_echo(
    synced: ReflectedCache, kube: FakeKube, woken: list[PoolKey]
) -> None:
    ours = kube.put(SERVICES, service(spec={"n": 1}))
    synced.note(SERVICES, ours)
    assert woken == [KEY]
    await until(lambda: kube.delivered >= kube.version)
    assert woken == [KEY]
    synced.note(SERVICES, ours)  # applied again, and nothing of it was new
    assert woken == [KEY]
    kube.put(SERVICES, service(spec={"n": 2}))
    await until(lambda: woken == [KEY, KEY])


async def test_a_pool_that_reads_otherwise_at_its_version_is_looked_at_again(
    synced: ReflectedCache, kube: FakeKube, woken: list[PoolKey]
) -> None:
    """An older schema has shown it without a field, and its kind is another now."""

    def suspend(pool: dict[str, Any]) -> None:
        pool["spec"]["suspend"] = True

    kube.put(POOLS, {**pool_object(), "metadata": {"name": KEY.name, "namespace": KEY.namespace}})
    await until(lambda: woken == [KEY])
    kube.redefine(POOLS, KEY.namespace, KEY.name, suspend)
    kube.break_watches()
    await until(lambda: woken == [KEY, KEY])
    found = synced.pool(KEY)
    assert found is not None
    assert found["spec"]["suspend"] is True


async def test_answer_that_comes_after_the_watch_has_shown_the_deletion_is_too_late(
    synced: ReflectedCache, kube: FakeKube
) -> None:
    ours = kube.put(SERVICES, service())
    kube.remove(SERVICES, "default", "rag-router")
    await until(lambda: kube.delivered >= kube.version)
    synced.note(SERVICES, ours)
    assert shown(synced) == []


async def test_managed_fields_are_not_kept(synced: ReflectedCache, kube: FakeKube) -> None:
    obj = service()
    obj["metadata"]["managedFields"] = [{"manager": "x"}]
    kube.put(SERVICES, obj)
    await until(lambda: shown(synced) == ["rag-router"])
    ((_, found),) = synced.children(KEY)
    assert "managedFields" not in found["metadata"]
