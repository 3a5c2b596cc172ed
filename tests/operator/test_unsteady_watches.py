"""The whole operator while what it sees of the cluster is old, repeated and full of holes."""

from random import Random
from typing import Any

import pytest

from crd_objects import group_object
from operator_running import running
from operator_waiting import until
from operator_world import KEY, World, play_cluster
from sagepool_crds import names
from unsteady_watches import UnsteadyWatches

EMBED = group_object(name="embed", role="embedding", model={"name": "bge-m3"}, replicas=1)
EDITS: list[list[dict[str, Any]]] = [
    [group_object(replicas=2), EMBED],
    [group_object(replicas=4)],
    [group_object(replicas=1, engine={"type": "simulator", "port": 9000}), EMBED],
    [group_object(replicas=3), EMBED],
]


@pytest.mark.parametrize("seed", range(6))
async def test_the_pool_becomes_what_was_said_last_and_nothing_is_made_twice(seed: int) -> None:
    world = World()
    watches: Any = UnsteadyWatches(world.kube, Random(seed))

    def is_right() -> bool:
        play_cluster(world.kube)
        return (
            world.condition(names.READY) == ("True", "AllReady")
            and world.status.ready == "4/4"
            and world.status.observed_generation == world.pool.metadata.generation
        )

    def changed_since(writes: int) -> bool:
        play_cluster(world.kube)
        return world.write_count() > writes + 3

    def is_settled() -> bool:
        play_cluster(world.kube)
        return watches.have_shown_all() and not operator.health()["queueDepth"]

    async with running(watches) as operator:
        for groups in EDITS:
            world.apply_pool(groups=groups)
            writes = world.write_count()
            await until(lambda: changed_since(writes))  # noqa: B023  # called in this turn only
        await until(is_right, limit_s=20)
        pods = {pod["metadata"]["name"] for pod in world.pods("chat") + world.pods("embed")}
        assert {one["metadata"]["name"] for one in world.instances()} == pods
        assert world.deployment_names() == {"rag-chat", "rag-embed", "rag-router"}

        await until(is_settled)
        writes = world.write_count()
        operator.wake(KEY)
        await until(is_settled)
        assert world.write_count() == writes
    assert watches.repeated
    assert watches.broken
