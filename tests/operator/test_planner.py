"""The planner as a function: properties that hold for every pool."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crd_objects import group_object
from operator_world import IMAGES, KEY, NOW, World
from sagepool_crds import names
from sagepool_crds.pool import InferencePool
from sagepool_kube.api import DEPLOYMENTS, POD_DISRUPTION_BUDGETS
from sagepool_operator.plan import ChildKey
from sagepool_operator.planner import child_keys, plan
from sagepool_operator.snapshot import Observed

ENGINES: list[dict[str, Any]] = [
    {"type": "simulator"},
    {"type": "simulator", "args": ["--ttft-ms=3"], "env": [{"name": "A", "value": ""}]},
    {"type": "vllm", "port": 9000},
    {"type": "tei", "image": "tei:1"},
]


PRICE = {"pricePerHour": st.floats(0, 1000)}


@st.composite
def groups(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for index in range(draw(st.integers(1, 3))):
        engine = draw(st.sampled_from(ENGINES))
        roles = {
            "vllm": ["llm", "embedding"],
            "tei": ["embedding"],
            "simulator": ["llm", "embedding", "llm_embedding"],
        }
        role = draw(st.sampled_from(roles[engine["type"]]))
        gpu = draw(st.fixed_dictionaries({"count": st.integers(1, 4)}, optional=PRICE))
        has_gpu = draw(st.booleans())
        found.append(
            group_object(
                name=f"g{index}",
                role=role,
                engine=engine,
                model={"name": f"model-{index}", "uri": "hf://org/model"},
                embeddingModel=({"name": f"second-{index}"} if role == "llm_embedding" else None),
                gpu=gpu if has_gpu else None,
                replicas=draw(st.integers(0, 3)),
            )
        )
    return found


def pool_of(wanted: list[dict[str, Any]]) -> InferencePool:
    world = World()
    world.apply_pool(groups=wanted)
    return world.pool


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=groups(), second=groups())
def test_every_pool_settles_from_every_other_and_then_nothing_is_planned(
    first: list[dict[str, Any]], second: list[dict[str, Any]]
) -> None:
    async def run() -> None:
        world = World()
        for wanted in (first, second):
            world.apply_pool(groups=wanted)
            await world.settle()
            total = sum(group["replicas"] for group in wanted)
            assert world.condition(names.READY) == ("True", "AllReady")
            assert world.status.ready == f"{total}/{total}"
            before = len(world.kube.calls)
            await world.reconcile()
            assert len(world.kube.calls) == before

    asyncio.run(run())


@settings(deadline=None)
@given(wanted=groups())
def test_same_observation_gives_the_same_plan(wanted: list[dict[str, Any]]) -> None:
    observed = Observed(KEY, pool_of(wanted))
    assert plan(observed, NOW, IMAGES) == plan(observed, NOW, IMAGES)


@settings(deadline=None)
@given(wanted=groups())
def test_role_is_in_no_selector(wanted: list[dict[str, Any]]) -> None:
    decided = plan(Observed(KEY, pool_of(wanted)), NOW, IMAGES)
    for apply in decided.applies:
        if apply.kind in (DEPLOYMENTS, POD_DISRUPTION_BUDGETS):
            labels = apply.obj["spec"]["selector"]["matchLabels"]
            assert names.ROLE_LABEL not in labels
            assert labels[names.POOL_LABEL] == "rag"


@settings(deadline=None)
@given(wanted=groups())
def test_selectors_of_a_pool_never_overlap(wanted: list[dict[str, Any]]) -> None:
    decided = plan(Observed(KEY, pool_of(wanted)), NOW, IMAGES)
    deployments = [a.obj for a in decided.applies if a.kind == DEPLOYMENTS]
    for one in deployments:
        selector = one["spec"]["selector"]["matchLabels"].items()
        selected = [
            other["metadata"]["name"]
            for other in deployments
            if selector <= other["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert selected == [one["metadata"]["name"]]


@settings(deadline=None)
@given(wanted=groups())
def test_names_are_known_before_the_objects_are_built(wanted: list[dict[str, Any]]) -> None:
    pool = pool_of(wanted)
    decided = plan(Observed(KEY, pool), NOW, IMAGES)
    built = {ChildKey(a.kind, a.obj["metadata"]["name"]) for a in decided.applies}
    assert built == set(child_keys(pool))


@settings(deadline=None)
@given(wanted=groups())
def test_objects_of_others_are_in_no_plan(wanted: list[dict[str, Any]]) -> None:
    pool = pool_of(wanted)
    foreign = {
        key: {"metadata": {"name": key.name, "namespace": "default", "uid": "theirs"}}
        for key in child_keys(pool)
    }
    decided = plan(Observed(KEY, pool, children=foreign), NOW, IMAGES)
    assert decided.applies == decided.deletes == ()


@pytest.mark.parametrize("owner", ["another-uid", ""])
def test_unwanted_object_of_somebody_else_is_not_deleted(owner: str) -> None:
    pool = pool_of([group_object()])
    key = ChildKey(DEPLOYMENTS, "rag-old")
    owners = [{"uid": owner, "kind": "InferencePool"}] if owner else []
    old = {"metadata": {"name": "rag-old", "uid": "u", "ownerReferences": owners}}
    decided = plan(Observed(KEY, pool, children={key: old}), NOW, IMAGES)
    assert decided.deletes == ()
