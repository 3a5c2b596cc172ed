"""What sagepool relies on of an API server; the fake must answer as a real one does."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from kube_world import (
    CONFIG_MAPS,
    World,
    condition,
    config_map,
    deployment,
    instance,
    until,
    until_gone,
)
from sagepool_crds import names
from sagepool_kube.api import DEPLOYMENTS, INSTANCES, PODS, Object, WatchEvent
from sagepool_kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from sagepool_kube.reflector import Reflector

GATE = names.ROUTABLE_GATE


def version(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])


def container(obj: Object) -> dict[str, Any]:
    found: dict[str, Any] = obj["spec"]["template"]["spec"]["containers"][0]
    return found


async def next_change(events: AsyncGenerator[WatchEvent, None]) -> WatchEvent:
    """The next event that is no bookmark."""
    async with asyncio.timeout(10):
        async for event in events:
            if event.type != "BOOKMARK":
                return event
    raise AssertionError("the watch ended")


async def test_an_absent_object_is_not_found_and_the_message_names_call_and_object(
    world: World,
) -> None:
    with pytest.raises(NotFound, match=rf"get configmaps {world.namespace}/absent: .*\(404\)"):
        await world.api.get(CONFIG_MAPS, world.namespace, "absent")


async def test_a_created_object_reads_back_with_uid_and_version(world: World) -> None:
    made = await world.api.create(CONFIG_MAPS, world.namespace, config_map("a", color="red"))
    read = await world.api.get(CONFIG_MAPS, world.namespace, "a")
    assert read["data"] == {"color": "red"}
    assert read["metadata"]["uid"] == made["metadata"]["uid"] != ""
    assert version(read) == version(made) != ""
    assert (read["apiVersion"], read["kind"]) == ("v1", "ConfigMap")


async def test_creating_a_name_twice_says_that_it_exists(world: World) -> None:
    await world.api.create(CONFIG_MAPS, world.namespace, config_map("a"))
    with pytest.raises(AlreadyExists, match="a"):
        await world.api.create(CONFIG_MAPS, world.namespace, config_map("a"))


async def test_a_generated_name_is_filled_in(world: World) -> None:
    made = await world.api.create(
        CONFIG_MAPS, world.namespace, {"metadata": {"generateName": "event-"}}
    )
    assert made["metadata"]["name"].startswith("event-")
    assert made["metadata"]["name"] != "event-"


@pytest.mark.parametrize("verb", ["create", "apply"])
async def test_an_unknown_field_is_invalid(world: World, verb: str) -> None:
    obj = instance("a")
    obj["spec"]["typo"] = 1
    with pytest.raises(Invalid, match="typo"):
        await getattr(world.api, verb)(INSTANCES, world.namespace, obj)


@pytest.mark.parametrize("verb", ["create", "apply"])
async def test_a_value_of_the_wrong_type_is_invalid(world: World, verb: str) -> None:
    obj = instance("a")
    obj["spec"]["maxConcurrency"] = "many"
    with pytest.raises(Invalid, match="maxConcurrency"):
        await getattr(world.api, verb)(INSTANCES, world.namespace, obj)


async def test_a_list_holds_all_objects_of_the_namespace_with_their_kind(world: World) -> None:
    for name in ("a", "b", "c", "d", "e"):
        await world.api.create(INSTANCES, world.namespace, instance(name))
    found = await world.api.list(INSTANCES, world.namespace)
    assert sorted(o["metadata"]["name"] for o in found.items) == ["a", "b", "c", "d", "e"]
    assert {o["kind"] for o in found.items} == {"InferenceInstance"}
    assert int(found.resource_version) >= max(int(version(o)) for o in found.items)


async def test_a_list_of_a_built_in_kind_says_the_kind_of_its_items(world: World) -> None:
    await world.api.create(DEPLOYMENTS, world.namespace, deployment("a"))
    found = await world.api.list(DEPLOYMENTS, world.namespace)
    assert [(o["apiVersion"], o["kind"]) for o in found.items] == [("apps/v1", "Deployment")]


async def test_a_list_of_all_namespaces_holds_the_namespace_too(world: World) -> None:
    await world.api.create(INSTANCES, world.namespace, instance("everywhere"))
    found = await world.api.list(INSTANCES, None)
    keys = [(o["metadata"]["namespace"], o["metadata"]["name"]) for o in found.items]
    assert (world.namespace, "everywhere") in keys


@pytest.mark.parametrize(
    ("labels", "fields", "expected"),
    [
        ("tier=gold", "", ["a"]),
        ("tier", "", ["a", "b"]),
        ("tier=gold,zone=x", "", []),
        ("", "spec.poolRef=rag", ["a", "c"]),
        ("", "metadata.name=b", ["b"]),
        ("tier=gold", "spec.poolRef=rag", ["a"]),
    ],
)
async def test_selectors_narrow_a_list(
    world: World, labels: str, fields: str, expected: list[str]
) -> None:
    await world.api.create(INSTANCES, world.namespace, instance("a", labels={"tier": "gold"}))
    other = instance("b", "other", labels={"tier": "tin"})
    await world.api.create(INSTANCES, world.namespace, other)
    await world.api.create(INSTANCES, world.namespace, instance("c"))
    found = await world.api.list(
        INSTANCES, world.namespace, label_selector=labels, field_selector=fields
    )
    assert sorted(o["metadata"]["name"] for o in found.items) == expected


async def test_apply_creates_what_is_absent(world: World) -> None:
    made = await world.api.apply(CONFIG_MAPS, world.namespace, config_map("a", color="red"))
    assert made["data"] == {"color": "red"}
    assert (await world.api.get(CONFIG_MAPS, world.namespace, "a"))["data"] == {"color": "red"}


async def test_an_identical_apply_changes_nothing(world: World) -> None:
    obj = instance("a", labels={"x": "y"})
    first = await world.api.apply(INSTANCES, world.namespace, obj)
    second = await world.api.apply(INSTANCES, world.namespace, obj)
    assert version(second) == version(first)


async def test_apply_brings_our_fields_back_and_leaves_those_of_others(world: World) -> None:
    ours = deployment("a", image="engine:1", env={"OURS": "1"})
    await world.api.apply(DEPLOYMENTS, world.namespace, ours)
    theirs = deployment("a", image="engine:2", env={"THEIRS": "1"})
    await world.api.apply(DEPLOYMENTS, world.namespace, theirs, field_manager="someone")
    now = await world.api.apply(DEPLOYMENTS, world.namespace, ours)
    assert container(now)["image"] == "engine:1"
    assert {e["name"] for e in container(now)["env"]} == {"OURS", "THEIRS"}


async def test_a_field_left_out_of_the_next_apply_goes(world: World) -> None:
    await world.api.apply(DEPLOYMENTS, world.namespace, deployment("a", env={"A": "1", "B": "2"}))
    now = await world.api.apply(DEPLOYMENTS, world.namespace, deployment("a", env={"A": "1"}))
    assert container(now)["env"] == [{"name": "A", "value": "1"}]


async def test_a_field_that_two_managers_applied_stays_when_one_lets_go(world: World) -> None:
    both = config_map("a", shared="1")
    await world.api.apply(CONFIG_MAPS, world.namespace, both)
    await world.api.apply(CONFIG_MAPS, world.namespace, both, field_manager="someone")
    now = await world.api.apply(CONFIG_MAPS, world.namespace, config_map("a", own="2"))
    assert now["data"] == {"shared": "1", "own": "2"}


async def test_without_force_a_field_of_another_manager_is_a_conflict(world: World) -> None:
    await world.api.apply(CONFIG_MAPS, world.namespace, config_map("a", x="1"))
    with pytest.raises(Conflict, match="sagepool"):
        await world.api.apply(
            CONFIG_MAPS,
            world.namespace,
            config_map("a", x="2"),
            field_manager="someone",
            force=False,
        )


async def test_a_dry_run_answers_what_would_be_and_stores_nothing(world: World) -> None:
    await world.api.apply(CONFIG_MAPS, world.namespace, config_map("a", color="red"))
    told = await world.api.apply(
        CONFIG_MAPS, world.namespace, config_map("a", color="blue"), dry_run=True
    )
    assert told["data"] == {"color": "blue"}
    read = await world.api.get(CONFIG_MAPS, world.namespace, "a")
    assert read["data"] == {"color": "red"}
    await world.api.apply(CONFIG_MAPS, world.namespace, config_map("new"), dry_run=True)
    with pytest.raises(NotFound):
        await world.api.get(CONFIG_MAPS, world.namespace, "new")


async def test_a_patch_changes_what_it_names_and_nothing_else(world: World) -> None:
    await world.api.create(INSTANCES, world.namespace, instance("a"))
    changed = await world.api.patch(
        INSTANCES,
        world.namespace,
        "a",
        [
            {"op": "test", "path": "/metadata/name", "value": "a"},
            {"op": "add", "path": "/spec/drain", "value": True},
        ],
    )
    assert changed["spec"]["drain"] is True
    assert changed["spec"]["poolRef"] == instance("a")["spec"]["poolRef"]
    assert (await world.api.get(INSTANCES, world.namespace, "a"))["spec"]["drain"] is True


async def test_a_patch_whose_test_fails_or_that_breaks_the_schema_is_invalid(world: World) -> None:
    await world.api.create(INSTANCES, world.namespace, instance("a"))
    for operation in (
        {"op": "test", "path": "/metadata/name", "value": "b"},
        {"op": "replace", "path": "/spec/none", "value": 1},
        {"op": "add", "path": "/spec/drain", "value": "yes"},
    ):
        with pytest.raises(Invalid):
            await world.api.patch(INSTANCES, world.namespace, "a", [operation])
    with pytest.raises(NotFound):
        await world.api.patch(INSTANCES, world.namespace, "absent", [])


async def test_repeated_keys_in_a_keyed_list_are_invalid(world: World) -> None:
    obj = instance("a")
    obj["spec"]["endpoints"] *= 2
    with pytest.raises(Invalid):
        await world.api.apply(INSTANCES, world.namespace, obj)


async def test_status_is_written_only_through_its_subresource(world: World) -> None:
    obj = {**instance("a"), "status": {"phase": "Ready"}}
    made = await world.api.create(INSTANCES, world.namespace, obj)
    assert "status" not in made
    status = {"metadata": {"name": "a"}, "status": {"phase": "Ready"}, "spec": {"poolRef": "x"}}
    await world.api.apply(
        INSTANCES,
        world.namespace,
        {k: status[k] for k in ("metadata", "status")},
        subresource="status",
    )
    now = await world.api.get(INSTANCES, world.namespace, "a")
    assert now["status"]["phase"] == "Ready"
    assert now["spec"]["poolRef"] == "rag"
    assert now["metadata"]["generation"] == 1


async def test_an_identical_status_apply_changes_nothing(world: World) -> None:
    await world.api.create(INSTANCES, world.namespace, instance("a"))
    status = {"metadata": {"name": "a"}, "status": {"conditions": [condition("Ready")]}}
    versions = [
        version(await world.api.apply(INSTANCES, world.namespace, status, subresource="status"))
        for _ in range(2)
    ]
    assert versions[0] == versions[1]


async def test_conditions_of_two_managers_live_side_by_side(world: World) -> None:
    await world.api.create(INSTANCES, world.namespace, instance("a"))
    for manager, type_ in (("sagepool", "Ready"), ("someone", "Checked")):
        await world.api.apply(
            INSTANCES,
            world.namespace,
            {"metadata": {"name": "a"}, "status": {"conditions": [condition(type_)]}},
            field_manager=manager,
            subresource="status",
        )
    now = await world.api.get(INSTANCES, world.namespace, "a")
    assert {c["type"] for c in now["status"]["conditions"]} == {"Ready", "Checked"}


async def test_a_gate_of_a_pod_is_opened_beside_conditions_of_others(world: World) -> None:
    made = await create_pod(world)
    meta = {"name": "a", "uid": made["metadata"]["uid"]}

    def status(type_: str) -> Object:
        return {"metadata": meta, "status": {"conditions": [condition(type_)]}}

    await world.api.apply(
        PODS, world.namespace, status("example.com/x"), subresource="status", field_manager="other"
    )
    versions = {
        version(await world.api.apply(PODS, world.namespace, status(GATE), subresource="status"))
        for _ in range(2)
    }
    assert len(versions) == 1
    now = await world.api.get(PODS, world.namespace, "a")
    assert {GATE, "example.com/x"} <= {c["type"] for c in now["status"]["conditions"]}
    other = {**status(GATE), "metadata": {**meta, "uid": "somebody-else"}}
    with pytest.raises((Conflict, Invalid)):
        await world.api.apply(PODS, world.namespace, other, subresource="status")


async def create_pod(world: World) -> Object:
    """A pod that waits for its gate, and for a scheduler that does not exist."""
    pod = {
        "metadata": {"name": "a"},
        "spec": {
            "schedulerName": "nobody",
            "readinessGates": [{"conditionType": GATE}],
            "containers": [{"name": "engine", "image": "engine:1"}],
        },
    }
    async with asyncio.timeout(10):
        while True:
            try:
                return await world.api.create(PODS, world.namespace, pod)
            except Forbidden:  # the namespace has no service account yet
                await asyncio.sleep(0.05)


async def test_a_status_of_an_absent_object_is_not_found(world: World) -> None:
    status = {"metadata": {"name": "absent"}, "status": {"phase": "Ready"}}
    with pytest.raises(NotFound, match="absent"):
        await world.api.apply(INSTANCES, world.namespace, status, subresource="status")


async def test_a_change_of_spec_counts_the_generation_up_and_a_change_of_labels_does_not(
    world: World,
) -> None:
    await world.api.apply(INSTANCES, world.namespace, instance("a"))
    labelled = await world.api.apply(INSTANCES, world.namespace, instance("a", labels={"x": "y"}))
    assert labelled["metadata"]["generation"] == 1
    drained = instance("a", labels={"x": "y"})
    drained["spec"]["drain"] = True
    now = await world.api.apply(INSTANCES, world.namespace, drained)
    assert now["metadata"]["generation"] == 2


async def test_a_deleted_object_is_gone_and_deleting_it_again_is_not_found(world: World) -> None:
    await world.api.create(CONFIG_MAPS, world.namespace, config_map("a"))
    await world.api.delete(CONFIG_MAPS, world.namespace, "a")
    with pytest.raises(NotFound):
        await world.api.get(CONFIG_MAPS, world.namespace, "a")
    with pytest.raises(NotFound):
        await world.api.delete(CONFIG_MAPS, world.namespace, "a")


async def test_a_delete_for_another_uid_is_a_conflict(world: World) -> None:
    made = await world.api.create(CONFIG_MAPS, world.namespace, config_map("a"))
    with pytest.raises(Conflict):
        await world.api.delete(CONFIG_MAPS, world.namespace, "a", uid="other")
    await world.api.delete(CONFIG_MAPS, world.namespace, "a", uid=made["metadata"]["uid"])


async def test_what_an_object_owns_is_deleted_after_it(world: World) -> None:
    owner = await world.api.create(CONFIG_MAPS, world.namespace, config_map("owner"))
    owned = config_map("owned")
    owned["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "owner",
            "uid": owner["metadata"]["uid"],
            "controller": True,
        }
    ]
    await world.api.create(CONFIG_MAPS, world.namespace, owned)
    await world.api.delete(CONFIG_MAPS, world.namespace, "owner")
    await until_gone(world.api, CONFIG_MAPS, world.namespace, "owned")


async def test_an_apply_with_another_uid_does_not_touch_a_namesake(world: World) -> None:
    await world.api.create(CONFIG_MAPS, world.namespace, config_map("a"))
    obj = config_map("a", x="1")
    obj["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    with pytest.raises((Conflict, Invalid)):
        await world.api.apply(CONFIG_MAPS, world.namespace, obj)


async def test_an_apply_at_a_version_that_is_past_changes_nothing(world: World) -> None:
    made = await world.api.create(CONFIG_MAPS, world.namespace, config_map("a"))
    first, second = config_map("a", x="1"), config_map("a", x="2")
    for obj in (first, second):
        obj["metadata"]["resourceVersion"] = version(made)
    now = await world.api.apply(CONFIG_MAPS, world.namespace, first)
    assert now["data"] == {"x": "1"}
    with pytest.raises(Conflict, match="modified"):
        await world.api.apply(CONFIG_MAPS, world.namespace, second)


async def test_a_watch_opens_with_a_bookmark_at_its_version(world: World) -> None:
    found = await world.api.list(PODS, world.namespace)
    events = world.api.watch(PODS, world.namespace, resource_version=found.resource_version)
    async with aclosing(events), asyncio.timeout(10):
        first = await anext(events)
    assert first.type == "BOOKMARK"
    assert version(first.object) == found.resource_version


async def test_a_watch_tells_additions_changes_and_deletions_after_its_version(
    world: World,
) -> None:
    await world.api.create(INSTANCES, world.namespace, instance("before"))
    found = await world.api.list(INSTANCES, world.namespace)
    events = world.api.watch(INSTANCES, world.namespace, resource_version=found.resource_version)
    async with aclosing(events):
        made = await world.api.apply(INSTANCES, world.namespace, instance("a"))
        await world.api.apply(INSTANCES, world.namespace, instance("a", labels={"x": "y"}))
        await world.api.delete(INSTANCES, world.namespace, "a")
        changes = [await next_change(events) for _ in range(3)]
    assert [e.type for e in changes] == ["ADDED", "MODIFIED", "DELETED"]
    assert {e.object["metadata"]["name"] for e in changes} == {"a"}
    versions = [int(version(e.object)) for e in changes]
    assert versions == sorted(set(versions))
    assert versions[0] == int(version(made))
    assert changes[2].object["metadata"]["labels"] == {"x": "y"}


async def test_a_watch_with_a_selector_deletes_what_stops_matching(world: World) -> None:
    found = await world.api.list(INSTANCES, world.namespace)
    events = world.api.watch(
        INSTANCES,
        world.namespace,
        resource_version=found.resource_version,
        label_selector="tier=gold",
        field_selector="spec.poolRef=rag",
    )
    async with aclosing(events):
        gold = {"tier": "gold"}
        await world.api.apply(INSTANCES, world.namespace, instance("x", "other", labels=gold))
        await world.api.apply(INSTANCES, world.namespace, instance("a", labels=gold))
        await world.api.apply(INSTANCES, world.namespace, instance("a", labels={"tier": "tin"}))
        changes = [await next_change(events) for _ in range(2)]
    assert [(e.type, e.object["metadata"]["name"]) for e in changes] == [
        ("ADDED", "a"),
        ("DELETED", "a"),
    ]


async def test_a_reflector_follows_what_happens(world: World) -> None:
    await world.api.create(INSTANCES, world.namespace, instance("before"))
    await world.api.create(INSTANCES, world.namespace, instance("other", "another-pool"))
    reflector: Reflector[str] = Reflector(
        world.api,
        INSTANCES,
        world.namespace,
        project=lambda obj: str(obj["spec"]["drain"]),
        field_selector="spec.poolRef=rag",
    )
    task = asyncio.create_task(reflector.run())
    try:
        await asyncio.wait_for(reflector.synced.wait(), 10)
        assert dict(reflector.store) == {(world.namespace, "before"): "False"}
        drained = instance("after")
        drained["spec"]["drain"] = True
        await world.api.apply(INSTANCES, world.namespace, instance("after"))
        await world.api.apply(INSTANCES, world.namespace, drained)
        await world.api.delete(INSTANCES, world.namespace, "before")
        await until(lambda: dict(reflector.store) == {(world.namespace, "after"): "True"})
        assert reflector.health.is_connected
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
