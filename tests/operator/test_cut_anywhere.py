"""The operator is killed, or cut off, at every write there is: what comes of it is the same.

Each story begins with a settled pool (or none) and one thing that a person does. It is told once
undisturbed, and then once for each write that this took, with a cut there.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crd_objects import cloud_object, group_object
from operator_faults import CutApi, Killed, Loss
from operator_jobs import finish
from operator_world import KEY, World, set_pod_status
from sagepool_crds import names
from sagepool_kube.api import EVENTS, INSTANCES, JOBS, PODS, POOLS, ObjectApi
from sagepool_kube.errors import Unavailable
from sagepool_operator.routability.answers import RouterAnswer
from sagepool_operator.snapshot import CHILD_KINDS

LOSSES: Final[tuple[Loss, ...]] = get_args(Loss)

CHAT: Final = group_object(replicas=1)
EMBED: Final = group_object(name="embed", role="embedding", model={"name": "bge-m3"}, replicas=1)
SCALED_BY_OTHERS: Final = group_object(replicas=None, scaling={"mode": "external"})
REAL: Final = group_object(
    engine={"type": "vllm"}, model={"name": "m", "uri": "hf://o/m"}, replicas=1
)
OTHER_MODEL: Final = {"name": "m", "uri": "hf://o/other"}
CACHE: Final = {"type": "pvc", "size": "1Gi"}
SCALED: Final = group_object(
    replicas=None, scaling={"minReplicas": 2, "maxReplicas": 4, "target": {"inFlight": 8}}
)


ROOM: Final = {**CHAT, "lora": {}}
BOT: Final = {"name": "bot", "uri": "hf://acme/bot"}


@dataclass(frozen=True)
class Story:
    """What was, and what a person then does."""

    before: dict[str, Any] | None
    """The settled pool's spec; None: there is no pool."""
    act: Callable[[World], object]
    engines: int
    """Engine pods in the end."""


def spec(*groups: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"groups": list(groups), "router": {"replicas": 1}, **fields}


def become(*groups: dict[str, Any], **fields: Any) -> Callable[[World], object]:
    return lambda world: world.apply_pool(**spec(*groups, **fields))


def delete_pool(world: World) -> None:
    world.kube.remove(POOLS, KEY.namespace, KEY.name)


def let_models_be_removed(world: World) -> None:
    """All that the pool wants has been fetched, and the rest may go."""
    for job in world.kube.all(JOBS):
        finish(world, job)
    world.apply_pool(**spec(REAL, cache={**CACHE, "reclaimPolicy": "Delete"}))


def say_that_routers_have_all(world: World) -> None:
    """Every router is ready and sends to every instance: the gates may be opened."""
    found = frozenset(one["metadata"]["name"] for one in world.instances())
    for pod in world.pods_of_router():
        set_pod_status(world.kube, pod, conditions=[{"type": "Ready", "status": "True"}])
        world.tables.said[pod["metadata"]["name"]] = RouterAnswer(found)


def scale_up_behind_routers(world: World) -> None:
    """New engines of a pool whose routers have not said yet that they send to them."""
    for pod in world.pods_of_router():
        set_pod_status(world.kube, pod, conditions=[{"type": "Ready", "status": "True"}])
    world.apply_pool(**spec({**CHAT, "replicas": 3}))


ROLL: Final = {"model": {"name": "other"}, "engine": {"type": "simulator", "port": 9000}}
STORIES: Final = {
    "create": Story(None, become(CHAT, EMBED), 2),
    "cache a model": Story(spec(REAL), become(REAL, cache=CACHE), 1),
    "fetch another model": Story(
        spec(REAL, cache=CACHE), become({**REAL, "model": OTHER_MODEL}, cache=CACHE), 1
    ),
    "remove models": Story(spec(REAL, cache=CACHE), let_models_be_removed, 1),
    "roll": Story(spec(CHAT, EMBED), become({**CHAT, **ROLL}, EMBED), 2),
    "scale up": Story(spec(CHAT), become({**CHAT, "replicas": 3}), 3),
    "scale down": Story(spec({**CHAT, "replicas": 3}), become(CHAT), 1),
    "add an adapter": Story(spec(ROOM), become({**ROOM, "adapters": [BOT]}), 1),
    "remove an adapter": Story(spec({**ROOM, "adapters": [BOT]}), become(ROOM), 1),
    "suspend": Story(spec(CHAT, EMBED), become(CHAT, EMBED, suspend=True), 0),
    "resume": Story(spec(CHAT, EMBED, suspend=True), become(CHAT, EMBED), 2),
    "remove a group": Story(spec(CHAT, EMBED), become(CHAT), 1),
    "delete": Story(spec(CHAT, EMBED), delete_pool, 0),
    "leave replicas to others": Story(spec({**CHAT, "replicas": 3}), become(SCALED_BY_OTHERS), 3),
    "take replicas back": Story(spec(SCALED_BY_OTHERS), become({**CHAT, "replicas": 3}), 3),
    "let the operator scale": Story(spec(CHAT), become(SCALED), 2),
    "open gates": Story(spec(CHAT), scale_up_behind_routers, 3),
    "move to a provider": Story(
        spec(CHAT),
        become(CHAT, source="cloud", cloud=cloud_object(models={"qwen2.5-7b": "theirs"})),
        0,
    ),
}


def forget_events(world: World) -> None:
    for one in world.kube.all(EVENTS):
        world.kube.remove(EVENTS, KEY.namespace, one["metadata"]["name"])


async def begun(story: Story) -> World:
    """The story up to where the operator has to do something."""
    world = World()
    if story.before is not None:
        world.apply_pool(**story.before)
        await world.settle()
    world.kube.writes.clear()
    forget_events(world)
    story.act(world)
    return world


async def go_on(world: World, api: ObjectApi | None = None) -> None:
    """Let an operator work until nothing is left to do; it tries again what could not be done."""
    operator = world.reconciler(api)
    for _ in range(2):  # before and after the routers have taken the engines in
        try:
            await world.settle(operator)
        except Unavailable:
            await world.settle(operator)
        if not world.tables.asked:
            return
        say_that_routers_have_all(world)


def state(world: World) -> dict[str, str]:
    """All that there is, by kind and name, without what differs from run to run.

    Ids are numbered in the order in which the server gave them; ours are told by their owner.
    """
    found = {}
    uids = {
        one["metadata"]["uid"]: f"<{kind.kind} {one['metadata']['name']}>"
        for kind in (*CHILD_KINDS, INSTANCES, PODS, POOLS)
        for one in world.kube.all(kind)
    }
    for kind in (*CHILD_KINDS, INSTANCES, PODS, POOLS):
        for one in world.kube.all(kind):
            del one["metadata"]["resourceVersion"]
            text = json.dumps(one, sort_keys=True)
            text = re.sub(r"uid-\d+", lambda uid: uids.get(uid.group(), "<gone>"), text)
            # The digest of what was applied covers the owner's id.
            text = re.sub(r'("sagepool.dev/applied": )"[0-9a-f]+"', r"\1<digest>", text)
            found[f"{kind.kind} {one['metadata']['name']}"] = text
    return found


def events(world: World) -> Counter[tuple[str, str, str]]:
    return Counter(
        (one["regarding"]["name"], one["reason"], one["note"]) for one in world.kube.all(EVENTS)
    )


def made_twice(world: World) -> list[str]:
    """What came into being more than once."""
    return [name for name, times in Counter(world.kube.arrivals).items() if times > 1]


def assert_same(disturbed: World, undisturbed: World) -> None:
    assert state(disturbed) == state(undisturbed)
    assert not made_twice(disturbed)
    # An event may be lost with the process that was to tell it; none is told twice.
    assert not events(disturbed) - events(undisturbed)


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "cut off"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", STORIES)
async def test_a_cut_at_any_write_changes_nothing_in_the_end(
    name: str, loss: Loss, kill: bool
) -> None:
    story = STORIES[name]
    undisturbed = await begun(story)
    await go_on(undisturbed)
    assert len([*undisturbed.pods("chat"), *undisturbed.pods("embed")]) == story.engines
    assert set(events(undisturbed).values()) <= {1}
    for at in range(1, undisturbed.write_count() + 1):
        world = await begun(story)
        api: Any = CutApi(world.kube, at, loss, kill=kill)
        try:
            await go_on(world, api)
        except Killed:
            await go_on(world)
        assert api.has_cut
        assert_same(world, undisturbed)


EDITS: Final = st.sampled_from(
    [
        (CHAT,),
        ({**CHAT, "replicas": 3},),
        ({**CHAT, **ROLL}, EMBED),
        (SCALED_BY_OTHERS,),
        (SCALED, EMBED),
    ]
)


@settings(max_examples=25)
@given(
    edits=st.lists(
        st.tuples(EDITS, st.integers(1, 25), st.sampled_from(LOSSES)), min_size=1, max_size=4
    ),
    last=EDITS,
)
async def test_operators_that_die_one_after_another_lead_to_what_was_said_last(
    edits: list[tuple[tuple[dict[str, Any], ...], int, Loss]], last: tuple[dict[str, Any], ...]
) -> None:
    world = World()
    for groups, at, loss in edits:
        world.apply_pool(**spec(*groups))
        api: Any = CutApi(world.kube, at, loss, kill=True)
        with suppress(Killed):
            await go_on(world, api)
    world.apply_pool(**spec(*last))
    await go_on(world)
    assert world.condition(names.READY) == ("True", "AllReady")
    assert world.deployment_names() == {"rag-router", *(f"rag-{group['name']}" for group in last)}
    assert len(world.pods("embed")) == (1 if EMBED in last else 0)
    writes = world.write_count()
    await world.reconcile()
    assert world.write_count() == writes
