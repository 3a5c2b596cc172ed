"""Engines are replaced, moved and taken away under traffic of every kind: no request fails."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from e2e_endpoint import reach_router
from e2e_images import load_copy
from e2e_installation import Installation
from e2e_pool import (
    CHAT_ALIAS,
    Pool,
    build_chat_group,
    build_embedding_group,
    build_pool,
)
from e2e_rollout import (
    TOKEN_MS,
    MixedTraffic,
    flowing_mixed_traffic,
    watched_availability,
)
from kubectl import Kubectl
from sagepool_cluster.provider import Provider
from sagepool_crds import names

SETTLE_S = 150
"""A rollout of two engines, each of which finishes streams of 20 s."""
ENGINE = {"type": "simulator", "args": [f"--itl-ms={TOKEN_MS}"]}


def build_moving_pool(chats: int = 2) -> dict[str, Any]:
    """Chat engines whose tokens take their time, an embedding engine, two routers."""
    return build_pool(
        build_chat_group(engine=ENGINE, replicas=chats),
        build_embedding_group(),
        routers=2,
        name="moving",
    )


@pytest.fixture
def moving(installation: Installation, namespace: Kubectl) -> Pool:
    # A name of its own: a node is drained of its engines, and of no other pool's.
    pool = Pool(namespace, "moving")
    pool.apply(build_moving_pool())
    pool.wait_ready()
    return pool


@pytest.fixture
def traffic(moving: Pool) -> Iterator[MixedTraffic]:
    with (
        reach_router(moving.kubectl, moving.name) as url,
        flowing_mixed_traffic(url) as traffic,
    ):
        yield traffic


def assert_nothing_failed(traffic: MixedTraffic, moment_s: float) -> None:
    """Every kind of request was answered, and streams that ran at that moment ran to their end."""
    traffic.end()
    assert traffic.failures() == {}
    counts = traffic.counts()
    assert all(counts[kind] for kind in ("streamed chat", "chat", "embeddings", "long stream"))
    assert traffic.streams_over(moment_s), "no stream was under way"


def wait_replaced(pool: Pool, old: set[str]) -> None:
    """Return when none of the old engines is left and all is settled."""
    pool.wait(lambda: not old & pool.engines("chat").keys(), "old engines stay", SETTLE_S)
    pool.wait_ready(SETTLE_S)


def replace(field: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": f"/spec/groups/0/{field}", "value": value}


def change_arguments(provider: Provider, image: str) -> dict[str, Any]:
    return replace("engine/args", [*ENGINE["args"], "--ttft-ms=40"])


def change_image(provider: Provider, image: str) -> dict[str, Any]:
    return {
        "op": "add",
        "path": "/spec/groups/0/engine/image",
        "value": load_copy(provider, image),
    }


def change_model(provider: Provider, image: str) -> dict[str, Any]:
    return replace("model", {"name": "newer-model", "aliases": [CHAT_ALIAS]})


@pytest.mark.parametrize("change", [change_arguments, change_image, change_model])
def test_no_request_fails_when_engines_are_replaced(
    moving: Pool, traffic: MixedTraffic, change: Any, provider: Provider, image: str
) -> None:
    operation = change(provider, image)
    old = set(moving.engines("chat"))
    with watched_availability(moving, "chat") as available:
        moment_s = traffic.now_s
        moving.change(operation)
        wait_replaced(moving, old)
    traffic.short.wait_answers(*moving.engines("chat"))
    assert_nothing_failed(traffic, moment_s)
    assert set(traffic.streams_over(moment_s)) <= old
    assert min(available) >= 2


def test_no_request_fails_when_a_group_gets_smaller(moving: Pool, traffic: MixedTraffic) -> None:
    moment_s = traffic.now_s
    moving.scale(0, 1)
    moving.wait(lambda: len(moving.engines("chat")) == 1, "the engines stay", SETTLE_S)
    assert_nothing_failed(traffic, moment_s)


def test_no_request_fails_when_a_node_is_drained(moving: Pool, traffic: MixedTraffic) -> None:
    kubectl = moving.kubectl
    old = moving.engines("chat")
    node = next(iter(old.values()))["spec"]["nodeName"]
    selector = f"{names.POOL_LABEL}={moving.name},{names.GROUP_LABEL}=chat"
    moment_s = traffic.now_s
    with ThreadPoolExecutor(1) as thread:
        drained = thread.submit(
            kubectl.run,
            *("drain", node, f"--pod-selector={selector}", "--delete-emptydir-data"),
            "--timeout=150s",
            timeout_s=160,
        )
        try:
            moving.wait(lambda: "Draining" in moving.phases().values(), "no engine leaves")
        finally:
            # The cluster may have no other node: what was evicted has to go somewhere.
            kubectl.run("uncordon", node)
        drained.result()
    wait_replaced(moving, set(old))
    assert_nothing_failed(traffic, moment_s)


def test_requests_wait_and_do_not_fail_when_the_only_engine_is_evicted(
    moving: Pool, traffic: MixedTraffic
) -> None:
    (only,) = moving.engines("embed")
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": only, "namespace": moving.kubectl.namespace},
    }
    path = f"/api/v1/namespaces/{moving.kubectl.namespace}/pods/{only}/eviction"
    moment_s = traffic.now_s
    moving.kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    moving.wait(lambda: only not in moving.engines("embed"), "it stays", SETTLE_S)
    moving.wait_ready(SETTLE_S)
    traffic.short.wait_answers(*moving.engines("embed"))
    assert_nothing_failed(traffic, moment_s)


def test_no_request_fails_when_an_instance_is_drained(moving: Pool, traffic: MixedTraffic) -> None:
    drained = next(iter(moving.engines("chat")))

    def set_drain(value: bool) -> None:
        patch = json.dumps({"spec": {"drain": value}})
        moving.kubectl.run("patch", "sinst", drained, "--type=merge", f"--patch={patch}")

    moment_s = traffic.now_s
    set_drain(True)
    moving.wait(lambda: moving.phases()[drained] == "Draining", "it does not drain")
    traffic.short.wait_more(20)
    before = traffic.short.answered_by()[drained]
    traffic.short.wait_more(40)
    assert traffic.short.answered_by()[drained] == before
    set_drain(False)
    moving.wait_ready()
    traffic.short.wait_answers(*moving.engines("chat"))
    assert_nothing_failed(traffic, moment_s)


def test_changes_of_mind_amid_a_rollout_never_leave_too_few_engines(
    moving: Pool, traffic: MixedTraffic
) -> None:
    here, there = ([*ENGINE["args"], f"--ttft-ms={ms}"] for ms in (40, 50))
    moment_s = traffic.now_s
    with watched_availability(moving, "chat") as available:
        for args in (here, there, here):
            old = set(moving.engines("chat"))
            moving.change(replace("engine/args", args))
            moving.wait(lambda old=old: moving.engines("chat").keys() - old, "no new engine comes")
        moving.wait_ready(SETTLE_S)
    assert min(available) >= 2
    assert all(runs(engine, here) for engine in moving.engines("chat").values())
    assert_nothing_failed(traffic, moment_s)


def test_ten_fast_changes_are_as_good_as_the_last_one(moving: Pool) -> None:
    for ms in range(10):
        last = [*ENGINE["args"], f"--ttft-ms={10 + ms}"]
        moving.change(replace("engine/args", last))
    moving.wait_ready(SETTLE_S)
    engines = moving.engines("chat").values()
    assert len(engines) == 2
    assert all(runs(engine, last) for engine in engines)


def runs(engine: dict[str, Any], args: list[str]) -> bool:
    """Whether the engine's pod was made with these arguments."""
    found: list[str] = engine["spec"]["containers"][0]["args"]
    return found[-len(args) :] == args
