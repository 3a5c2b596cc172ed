from typing import Any

from sagepool_demo.world import World, describe_changes

READY = {
    "type": "Ready",
    "status": "True",
    "reason": "Ready",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def pool(observed: int = 1, conditions: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    group = {
        "name": "chat",
        "role": "llm",
        "engine": {"type": "simulator"},
        "model": {"name": "m"},
        "replicas": 1,
    }
    return {
        "kind": "InferencePool",
        "metadata": {"name": "rag", "generation": 1},
        "spec": {"groups": [group]},
        "status": {
            "observedGeneration": observed,
            "conditions": conditions or [],
            "groups": [{"name": "chat", "desired": 1, "ready": 0, "updated": 1}],
        },
    }


def instance(name: str, phase: str, message: str = "") -> dict[str, Any]:
    return {
        "kind": "InferenceInstance",
        "metadata": {"name": name},
        "spec": {
            "poolRef": "rag",
            "group": "chat",
            "engine": "simulator",
            "endpoints": [{"role": "llm", "models": ["m"]}],
        },
        "status": {"phase": phase, "message": message},
    }


def seen(*events: tuple[str, dict[str, Any]]) -> World:
    world = World("rag")
    for change, manifest in events:
        world = world.after(change, manifest)
    return world


def test_a_pool_is_ready_when_its_status_says_so_of_its_present_spec() -> None:
    assert seen(("ADDED", pool(1, [READY]))).is_ready()
    assert not seen(("ADDED", pool(0, [READY]))).is_ready()
    assert not seen(("ADDED", pool(1))).is_ready()


def test_an_earlier_generation_of_the_pool_does_not_count() -> None:
    world = seen(("ADDED", pool(1, [READY])))
    assert world.is_ready(1)
    assert not world.is_ready(2)


def test_a_group_is_settled_when_no_engine_is_missing_or_still_leaving() -> None:
    pool_seen = ("ADDED", pool(1, [READY]))
    ready = ("ADDED", instance("rag-chat-1", "Ready"))
    leaving = ("ADDED", instance("rag-chat-2", "Draining"))
    assert seen(pool_seen, ready).is_settled("chat", 1)
    assert not seen(pool_seen, ready, leaving).is_settled("chat", 1)
    assert seen(pool_seen, ready, leaving, ("DELETED", leaving[1])).is_settled("chat", 1)


def test_changes_are_told_once_and_in_words() -> None:
    before = seen(("ADDED", pool()), ("ADDED", instance("rag-chat-1", "Pending", "no node")))
    assert list(describe_changes(World("rag"), before)) == [
        "engine rag-chat-1  Pending: no node",
        "group chat  0 of 1 engines ready",
        "pool rag  seen, no status yet",
    ]
    after = before.after("MODIFIED", instance("rag-chat-1", "Ready"))
    assert list(describe_changes(before, after)) == ["engine rag-chat-1  Ready"]
    gone = after.after("DELETED", instance("rag-chat-1", "Ready"))
    assert list(describe_changes(after, gone)) == ["engine rag-chat-1  gone"]


def test_other_pools_are_not_told() -> None:
    other = pool()
    other["metadata"]["name"] = "other"
    assert seen(("ADDED", other)) == World("rag")
