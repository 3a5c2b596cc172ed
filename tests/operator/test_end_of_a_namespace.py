"""A pool that goes with its namespace: the operator says so once and leaves it to go."""

import logging

import pytest

from crd_objects import group_object
from operator_world import KEY, World
from sagepool_crds import names
from sagepool_kube.api import DEPLOYMENTS, POOLS, SERVICES
from sagepool_kube.errors import Terminating

SAID = "unable to create new content in namespace default because it is being terminated"


@pytest.fixture
async def settled() -> World:
    world = World()
    world.apply_pool()
    await world.settle()
    return world


def begin_to_end(world: World) -> None:
    """The namespace controller has begun to delete, and the API server takes nothing new."""
    world.kube.remove(SERVICES, "default", "rag-router")
    world.kube.remove(DEPLOYMENTS, "default", "rag-chat")
    world.kube.fail_next("apply", Terminating(SAID), SERVICES)


async def test_gets_nothing_new_and_is_told_of_no_missing_right(settled: World) -> None:
    begin_to_end(settled)
    assert await settled.reconcile() is None
    assert "rag-chat" not in settled.deployment_names()
    assert settled.condition(names.READY)[1] != "WriteRefused"


async def test_is_logged_once_and_not_tried_again_however_often_it_is_looked_at(
    settled: World, caplog: pytest.LogCaptureFixture
) -> None:
    begin_to_end(settled)
    reconciler = settled.reconciler()
    caplog.set_level(logging.INFO)
    await reconciler.reconcile(KEY)
    settled.kube.calls.clear()
    for _ in range(3):
        assert await reconciler.reconcile(KEY) is None
    assert settled.kube.calls == []
    (line,) = caplog.records
    assert line.levelno == logging.INFO
    assert line.getMessage() == "the namespace is being deleted: leaving the pool to go with it"
    assert (line.__dict__["pool"], line.__dict__["error"]) == ("default/rag", SAID)


async def test_nothing_is_asked_for_it_any_more(settled: World) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 3, "target": {"inFlight": 10}}
    settled.apply_pool(groups=[group_object(replicas=None, scaling=scaling)])
    await settled.settle()
    assert settled.probes.targets[KEY]
    assert settled.scaler.scene is not None
    begin_to_end(settled)
    await settled.reconcile()
    assert settled.probes.targets[KEY] == ()
    assert settled.scaler.scene is None


async def test_a_pool_of_its_name_in_a_namespace_made_anew_is_served(settled: World) -> None:
    begin_to_end(settled)
    reconciler = settled.reconciler()
    await reconciler.reconcile(KEY)
    settled.kube.remove(POOLS, KEY.namespace, KEY.name)
    settled.apply_pool()
    await settled.settle(reconciler)
    assert settled.condition(names.READY) == ("True", "AllReady")
