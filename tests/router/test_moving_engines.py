"""Engines that are moved, replaced or given another model: requests wait and do not fail."""

from contextlib import ExitStack
from typing import Any

import pytest

from crd_objects import group_object, pool_object
from router_app_objects import named_instance, ready
from router_engines import serve_engine
from router_scheduling import named, queue_up
from router_server import backend, provider, serve_router, table_of
from router_wire import ask, eventually
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import InferencePool
from sagepool_router.limits import Limits
from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings
from sagepool_router.table import RoutingTable, build_table

QUICK = Limits(sweep_tick_s=0.02)


def vacant(
    *, is_expected: bool = True, max_wait_s: float = 60.0, max_requests: int = 1000
) -> RoutingTable:
    """The model's last engine has left."""
    settings = SchedulingSettings(queue=QueueLimits(max_requests, max_wait_s))
    return table_of(
        absent={"ok": "its instances are Draining (1)"},
        is_expected=is_expected,
        scheduling=settings,
        version=2,
    )


def test_requests_wait_for_the_successor_of_the_last_engine() -> None:
    with ExitStack() as stack:
        old, new = (stack.enter_context(serve_engine("ok")) for _ in range(2))
        router = stack.enter_context(serve_router(table_of(backend(old.port)), QUICK))
        assert ask(router.port, named("before")).status == 200
        router.swap(vacant())
        clients = queue_up(stack, router, [named("first"), named("second")])
        successor = backend(new.port, instance="engine-b")
        router.swap(table_of(successor, version=3))
        assert [client.response().status for client in clients] == [200, 200]
        assert [r.headers["x-request-id"] for r in new.requests] == ["first", "second"]


def test_nobody_waits_for_longer_than_in_any_queue() -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("ok"))
        router = stack.enter_context(serve_router(table_of(backend(engine.port)), QUICK))
        router.swap(vacant(max_wait_s=0.3))
        (waited,) = queue_up(stack, router, [named("first")])
        response = waited.response()
        assert (response.status, response.code) == (503, "no_instance")
        # By now the engine has been gone for so long that nobody can tell when it will be back.
        assert ask(router.port, named("second")).code == "no_instance"
        assert router.phases() == []


def test_a_model_that_had_no_engine_yet_is_refused_at_once() -> None:
    with serve_router(vacant(), QUICK) as router:
        response = ask(router.port, named("first"))
        assert (response.status, response.code) == (503, "no_instance")


def test_an_engine_that_nobody_asks_for_any_more_is_not_waited_for() -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("ok"))
        router = stack.enter_context(serve_router(table_of(backend(engine.port)), QUICK))
        router.swap(vacant(is_expected=False))
        assert ask(router.port, named("first")).code == "no_instance"


def test_no_more_requests_wait_than_in_any_queue() -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("ok"))
        router = stack.enter_context(serve_router(table_of(backend(engine.port)), QUICK))
        router.swap(vacant(max_requests=1))
        queue_up(stack, router, [named("first")])
        response = ask(router.port, named("second"))
        assert (response.status, response.code) == (429, "overloaded")
        assert "no instance of ok is up" in str(response.error["message"])


def test_a_provider_that_may_answer_meanwhile_goes_first() -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("ok"))
        cloud = stack.enter_context(serve_engine("ok"))
        router = stack.enter_context(serve_router(table_of(backend(engine.port)), QUICK))
        router.swap(
            table_of(absent={"ok": "away"}, is_expected=True, cloud=provider(cloud.port), version=2)
        )
        assert ask(router.port, named("first")).status == 200
        eventually(lambda: len(cloud.requests) == 1, "the provider is asked")


# Which models are expected back, and who answers for a group's aliases.


def table(*instances: dict[str, Any], **spec: Any) -> RoutingTable:
    return build_table(
        InferencePool.from_object(pool_object(**spec)),
        [InferenceInstance.from_object(i) for i in instances],
        1,
    )


def in_phase(phase: str, **spec: Any) -> dict[str, Any]:
    return {**named_instance("a", group="chat", **spec), "status": {"phase": phase}}


def scaled(**scaling: Any) -> dict[str, Any]:
    """The group that the operator scales."""
    given = {"maxReplicas": 4, "target": {"inFlight": 8}, **scaling}
    return group_object(replicas=None, scaling=given)


@pytest.mark.parametrize("phases", [(), ("Draining",), ("Loading",), ("Failed", "Pending")])
def test_an_engine_that_the_pool_asks_for_is_expected(phases: tuple[str, ...]) -> None:
    found = table(*(in_phase(phase) for phase in phases)).models["qwen2.5-7b"]
    assert found.is_expected


@pytest.mark.parametrize(
    "group",
    [
        scaled(),
        scaled(minReplicas=2),
        group_object(replicas=None, scaling={"mode": "external"}),
    ],
    ids=["one at least", "two at least", "others say how many"],
)
def test_an_engine_of_a_scaled_group_that_keeps_one_is_expected(group: dict[str, Any]) -> None:
    assert table(in_phase("Draining"), groups=[group]).models["qwen2.5-7b"].is_expected


@pytest.mark.parametrize(
    "spec",
    [
        {"groups": [group_object(replicas=0)]},
        {"suspend": True},
        {"groups": [scaled(minReplicas=0)]},
    ],
    ids=["no replicas", "suspended", "scaled to zero: holdSeconds says who waits"],
)
def test_an_engine_that_the_pool_does_not_ask_for_is_not_expected(spec: dict[str, Any]) -> None:
    assert not table(in_phase("Draining"), **spec).models["qwen2.5-7b"].is_expected


def test_engines_that_have_all_failed_are_not_expected() -> None:
    assert not table(in_phase("Failed")).models["qwen2.5-7b"].is_expected


def test_a_model_that_has_an_engine_waits_for_none() -> None:
    found = table(ready(named_instance("a")), in_phase("Draining")).models["qwen2.5-7b"]
    assert not found.is_expected


def serves(model: str, name: str, group: str = "chat") -> dict[str, Any]:
    endpoint = {"role": "llm", "url": "http://10.0.0.7:8000", "models": [model]}
    return named_instance(name, group=group, endpoints=[endpoint])


NEW = group_object(model={"name": "newer", "aliases": ["gpt-4o-mini"]})


def test_aliases_follow_a_group_to_its_new_model_when_that_answers() -> None:
    old, new = ready(serves("qwen2.5-7b", "a")), serves("newer", "b")
    before = table(old, new, groups=[NEW])
    assert before.models["gpt-4o-mini"].name == "qwen2.5-7b"
    assert before.models["newer"].backends == ()

    after = table(old, ready(new), groups=[NEW])
    assert after.models["gpt-4o-mini"].name == "newer"
    assert after.models["qwen2.5-7b"].backends, "the former name is served as long as it can be"


def test_engines_of_other_groups_do_not_answer_for_aliases() -> None:
    found = table(ready(serves("qwen2.5-7b", "a", "other")), groups=[NEW])
    assert found.models["gpt-4o-mini"].name == "newer"
