"""When engine pods count as ready: not before every ready router sends requests to them."""

from typing import Any

import pytest

from crd_objects import group_object
from kube_fake import FakeKube
from operator_world import (
    World,
    instance_condition,
    play_cluster,
    run_pod,
    set_pod_status,
    start_deleting,
)
from sagepool_crds import names
from sagepool_engines.probe import ProbeResult
from sagepool_kube.api import PODS, Kind, Object
from sagepool_kube.errors import Forbidden
from sagepool_operator.errors import ReconcileError
from sagepool_operator.routability.answers import RouterAnswer

READY = {"type": "Ready", "status": "True"}


def is_open(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == names.ROUTABLE_GATE and c["status"] == "True" for c in conditions)


def routable(world: World) -> tuple[str, str, str]:
    """Status, reason and message of the chat instance's Routable condition."""
    (instance,) = world.instances("chat")
    found = instance_condition(instance, names.ROUTABLE)
    return found["status"], found["reason"], found["message"]


def make_routers_ready(world: World) -> list[str]:
    for pod in world.pods_of_router():
        set_pod_status(world.kube, pod, conditions=[READY])
    return sorted(pod["metadata"]["name"] for pod in world.pods_of_router())


def say(world: World, router: str, *groups: str) -> None:
    """A router says that it sends to all instances of these groups."""
    found = [i["metadata"]["name"] for group in groups for i in world.instances(group)]
    world.tables.said[router] = RouterAnswer(frozenset(found))


@pytest.fixture
def world() -> World:
    world = World()
    world.apply_pool(groups=[group_object(replicas=0)])
    return world


@pytest.fixture
async def routed(world: World) -> World:
    """Two routers are ready, and a chat engine has just become so."""
    await world.settle()
    make_routers_ready(world)
    world.edit_group("chat", replicas=1)
    await world.settle()
    return world


@pytest.fixture
def routers(routed: World) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in routed.pods_of_router())


async def test_without_a_ready_router_an_engine_that_answers_is_enough(world: World) -> None:
    world.edit_group("chat", replicas=1)
    await world.settle()
    assert [is_open(pod) for pod in world.pods("chat")] == [True]
    assert routable(world)[:2] == ("True", "InEveryRouter")
    assert world.tables.asked == ()


async def test_an_engine_that_does_not_answer_yet_waits_for_itself(world: World) -> None:
    await world.settle()
    make_routers_ready(world)
    world.edit_group("chat", replicas=1)
    await world.reconcile()
    play_cluster(world.kube)
    (pod,) = world.pods("chat")
    world.probes.results[pod["metadata"]["name"]] = ProbeResult("Unreachable", "nothing listens")
    await world.settle()
    assert not is_open(world.pods("chat")[0])
    assert routable(world)[:2] == ("False", "EngineLoading")
    assert world.tables.asked == ()


async def test_every_ready_router_is_asked_and_waited_for(
    routed: World, routers: list[str]
) -> None:
    assert [router.name for router in routed.tables.asked] == routers
    assert routable(routed) == (
        "False",
        "WaitingForRouters",
        f"not yet in the table of router pods {routers[0]}, {routers[1]}",
    )
    say(routed, routers[0], "chat")
    say(routed, routers[1])
    await routed.settle()
    assert routable(routed)[2] == f"not yet in the table of router pods {routers[1]}"
    assert [is_open(pod) for pod in routed.pods("chat")] == [False]

    say(routed, routers[1], "chat")
    await routed.settle()
    assert [is_open(pod) for pod in routed.pods("chat")] == [True]
    assert routable(routed)[:2] == ("True", "InEveryRouter")
    assert routed.tables.asked == ()


async def test_requests_may_be_sent_before_the_gate_is_open(routed: World) -> None:
    (instance,) = routed.instances("chat")
    assert instance_condition(instance)["status"] == "True"
    assert instance["status"]["phase"] == "Ready"


async def test_a_router_that_leaves_or_is_not_ready_is_not_waited_for(
    routed: World, routers: list[str]
) -> None:
    first, second = sorted(routed.pods_of_router(), key=lambda pod: str(pod["metadata"]["name"]))
    start_deleting(routed.kube, PODS, first)
    set_pod_status(routed.kube, second, conditions=[{**READY, "status": "False"}])
    await routed.settle()
    assert [is_open(pod) for pod in routed.pods("chat")] == [True]


async def test_a_router_that_cannot_be_asked_is_named_with_the_way_out(
    routed: World, routers: list[str]
) -> None:
    say(routed, routers[0], "chat")
    routed.tables.said[routers[1]] = RouterAnswer(error="http://x cannot be reached")
    await routed.settle()
    status, reason, message = routable(routed)
    assert (status, reason) == ("False", "RouterUnreachable")
    assert f"router pod {routers[1]} " in message
    assert "http://x cannot be reached" in message
    assert "let the operator connect to its port 9090" in message
    assert [is_open(pod) for pod in routed.pods("chat")] == [False]


async def test_an_open_gate_stays_open_whatever_comes(routed: World, routers: list[str]) -> None:
    for router in routers:
        say(routed, router, "chat")
    await routed.settle()
    (pod,) = routed.pods("chat")
    for router in routers:
        say(routed, router)
    routed.probes.results[pod["metadata"]["name"]] = ProbeResult("Unreachable", "gone")
    writes = len([w for w in routed.kube.writes if w.kind == PODS])
    await routed.settle()
    assert is_open(routed.pods("chat")[0])
    assert routable(routed)[:2] == ("False", "Unreachable")
    assert len([w for w in routed.kube.writes if w.kind == PODS]) == writes


async def test_a_pod_that_leaves_leaves_the_tables_first(routed: World, routers: list[str]) -> None:
    for router in routers:
        say(routed, router, "chat")
    await routed.settle()
    start_deleting(routed.kube, PODS, routed.pods("chat")[0])
    await routed.reconcile()
    (instance,) = routed.instances("chat")
    assert instance_condition(instance)["status"] == "False"
    assert instance["status"]["phase"] == "Draining"
    assert routable(routed)[:2] == ("False", "Draining")
    assert is_open(routed.pods("chat")[0])


async def test_the_gate_of_a_pod_that_leaves_before_it_was_opened_is_left_alone(
    routed: World, routers: list[str]
) -> None:
    start_deleting(routed.kube, PODS, routed.pods("chat")[0])
    for router in routers:
        say(routed, router, "chat")
    await routed.reconcile()
    assert not is_open(routed.pods("chat")[0])
    assert routed.tables.asked == ()


async def test_a_pod_of_an_earlier_version_has_no_gate_and_is_left_alone(world: World) -> None:
    world.edit_group("chat", replicas=1)
    await world.reconcile()

    def without_gate(pod: dict[str, Any]) -> None:
        del pod["spec"]["readinessGates"]

    play_cluster(world.kube)
    for pod in world.pods("chat"):
        world.kube.edit(PODS, "default", pod["metadata"]["name"], without_gate)
    await world.settle()
    (instance,) = world.instances("chat")
    assert instance_condition(instance)["status"] == "True"
    assert instance_condition(instance, names.ROUTABLE) == {}
    assert [w for w in world.kube.writes if w.kind == PODS] == []


async def test_conditions_of_others_on_the_pod_stay(routed: World, routers: list[str]) -> None:
    for router in routers:
        say(routed, router, "chat")
    (pod,) = routed.pods("chat")
    theirs = {"type": "example.com/other", "status": "True"}
    set_pod_status(routed.kube, pod, conditions=[theirs])
    await routed.settle()
    conditions = routed.pods("chat")[0]["status"]["conditions"]
    assert theirs in conditions
    assert is_open(routed.pods("chat")[0])


async def test_a_pool_is_not_settled_before_its_gates_are_open(
    routed: World, routers: list[str]
) -> None:
    assert routed.condition(names.PROGRESSING) == ("True", "Starting")
    for router in routers:
        say(routed, router, "chat")
    await routed.settle()
    assert routed.condition(names.PROGRESSING) == ("False", "Settled")


class KubeWithoutRight(FakeKube):
    """Lets nobody write the status of pods."""

    async def apply(self, kind: Kind, namespace: str | None, obj: Object, **options: Any) -> Object:
        if kind == PODS:
            raise Forbidden("apply pods/status: cannot patch (403)")
        return await super().apply(kind, namespace, obj, **options)


async def test_a_missing_right_is_told_and_the_rest_goes_on() -> None:
    world = World(kube=KubeWithoutRight())
    world.apply_pool()
    with pytest.raises(ReconcileError, match="cannot patch"):
        await world.settle()
    assert world.condition(names.READY) == ("False", "WriteRefused")
    assert "give the operator's service account this right" in world.message()


async def test_a_restarted_container_does_not_close_the_gate(
    routed: World, routers: list[str]
) -> None:
    for router in routers:
        say(routed, router, "chat")
    await routed.settle()
    (pod,) = routed.pods("chat")
    run_pod(routed.kube, pod, restarts=1)
    await routed.settle()
    assert is_open(routed.pods("chat")[0])
    assert routable(routed)[:2] == ("True", "InEveryRouter")
