"""Who is next and where it goes, by policy; and how people and clients learn why."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from math import ceil

import pytest

from router_engines import ANSWER, serve_engine, unused_port
from router_pool import Pool, serve_pool
from router_scheduling import (
    LONG,
    count_waiting,
    decisions,
    named,
    names_at,
    occupy,
    open_all,
    queue_up,
    read_admin,
)
from router_server import backend, serve_router, table_of
from router_wire import Response, ask, eventually
from sagepool_router.limits import Limits
from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings

FIFO = SchedulingSettings(policy="fifo")
PRIORITY = SchedulingSettings(policy="priority")


def instance_of(response: Response) -> str:
    assert response.status == 200
    return response.headers["x-sagepool-instance"]


def served_in_order(pool: Pool, requests: list[bytes]) -> list[str]:
    """The names of requests that waited for one engine, in the order in which it got them."""
    with ExitStack() as stack:
        first = occupy(stack, pool.router, pool.engine)
        clients = queue_up(stack, pool.router, requests)
        pool.engine.let_go()
        assert {c.response().body for c in (first, *clients)} == {ANSWER}
    return names_at(pool.engine)[1:]


# Who is next.


def test_priority_serves_the_urgent_first_and_equals_by_arrival() -> None:
    levels = ("background", "low", "normal", "high", "critical")
    requests = [named(f"{level}-{i}", priority=level) for level in levels for i in (1, 2)]
    with serve_pool("held", limit=1, scheduling=PRIORITY) as pool:
        in_order = served_in_order(pool, requests)
        assert in_order == [f"{level}-{i}" for level in reversed(levels) for i in (1, 2)]


def test_fifo_does_not_look_at_priorities() -> None:
    levels = ("background", "critical", "low", "high")
    with serve_pool("held", limit=1, scheduling=FIFO) as pool:
        in_order = served_in_order(pool, [named(level, priority=level) for level in levels])
        assert in_order == list(levels)


def test_slo_aware_serves_who_has_the_least_time_left() -> None:
    deadlines = {"b": 30_000, "c": 40_000, "a": 20_000}
    requests = [named(name, deadline_ms=ms) for name, ms in deadlines.items()]
    with serve_pool("held", limit=1, scheduling=SchedulingSettings(policy="slo_aware")) as pool:
        assert served_in_order(pool, requests) == ["a", "b", "c"]


def test_adaptive_turns_to_deadlines_when_one_waits_and_says_so() -> None:
    with serve_pool("held", limit=1) as pool, ExitStack() as stack:
        occupy(stack, pool.router, pool.engine)
        (relaxed,) = queue_up(stack, pool.router, [named("relaxed", deadline_ms=50_000)])
        (hurried,) = queue_up(stack, pool.router, [named("hurried", deadline_ms=20_000)])
        (lane,) = read_admin(pool.router, "/admin/queue")["lanes"]
        assert lane["policy"] == "hybrid/adaptive/slo_aware"
        assert lane["reason"] == "1 of 1 that wait have deadlines"
        pool.engine.let_go()
        policies = {c.response().headers["x-sagepool-policy"] for c in (relaxed, hurried)}
        assert "hybrid/adaptive/slo_aware" in policies
        assert names_at(pool.engine) == ["first", "hurried", "relaxed"]


def test_a_session_with_few_requests_does_not_wait_for_one_with_many() -> None:
    many = [named(f"many-{i}", session="many") for i in range(30)]
    few = [named(f"few-{i}", session="few") for i in range(5)]
    with serve_pool("held", limit=1, scheduling=FIFO) as pool:
        in_order = served_in_order(pool, [*many, *few])
        beginning = Counter(name.split("-")[0] for name in in_order[:10])
        assert 4 <= beginning["few"] <= 5
        for session in ("many", "few"):
            own = [name for name in in_order if name.startswith(session)]
            assert own == sorted(own, key=lambda name: int(name.split("-")[1]))


# Where it goes.


def test_equal_long_prompts_go_to_one_instance_and_say_why() -> None:
    with serve_pool("ok", "ok", "ok", "ok") as pool:
        prompts = [named(f"{i}", prompt=LONG, path="/v1/completions") for i in range(20)]
        first, *others = [ask(pool.port, prompt) for prompt in prompts]
        assert first.headers["x-sagepool-reason"] == "least_loaded"  # nobody knows it yet
        assert {r.headers["x-sagepool-reason"] for r in others} == {"affinity"}
        assert len({instance_of(r) for r in others}) == 1


def test_short_prompts_and_long_ones_that_differ_spread() -> None:
    with serve_pool("ok", "ok", "ok", "ok") as pool:
        for prompt in ("short", "{} " + LONG):
            responses = [
                ask(pool.port, named("x", prompt=prompt.format(i), path="/v1/completions"))
                for i in range(40)
            ]
            assert {r.headers["x-sagepool-reason"] for r in responses} == {"least_loaded"}
            assert len({instance_of(r) for r in responses}) == 4


def test_without_prefix_affinity_equal_long_prompts_spread() -> None:
    scheduling = SchedulingSettings(prefix_affinity=False)
    with serve_pool("ok", "ok", "ok", "ok", scheduling=scheduling) as pool:
        prompt = named("x", prompt=LONG, path="/v1/completions")
        assert len({instance_of(ask(pool.port, prompt)) for _ in range(40)}) == 4


def test_a_prompt_that_is_too_much_for_one_instance_loads_none_beyond_the_bound() -> None:
    with serve_pool("held", "held", "held", "held") as pool, ExitStack() as stack:
        prompt = named("x", prompt=LONG, path="/v1/completions")
        bounds = []
        for count in range(1, 41):
            open_all(stack, pool.port, [prompt])
            eventually(lambda: sum(pool.requests()) == count, "it is at an engine")  # noqa: B023
            bounds.append(max(pool.requests()) <= ceil(1.25 * count / 4))
        assert all(bounds)
        assert max(pool.requests()) == 13  # as many as it may have, and 10 were an even share


def test_the_turns_of_a_session_go_to_one_instance_and_sessions_spread() -> None:
    with serve_pool("ok", "ok", "ok", "ok") as pool:
        places: dict[str, set[str]] = {}
        for turn in range(1, 5):
            for session in "abcdefghijkl":
                request = named("x", session=session, path="/v1/completions", prompt=turn * LONG)
                places.setdefault(session, set()).add(instance_of(ask(pool.port, request)))
        assert {len(of_session) for of_session in places.values()} == {1}
        assert len(set.union(*places.values())) >= 3


@pytest.mark.parametrize(
    ("prefers", "expected", "reason"),
    [(True, [6, 2], "specialized"), (False, [4, 4], "least_loaded")],
)
def test_instances_with_a_gpu_of_their_own_come_first_if_the_pool_wants_it(
    prefers: bool, expected: list[int], reason: str
) -> None:
    scheduling = SchedulingSettings(prefer_specialized_instances=prefers)
    with serve_engine("held") as special, serve_engine("held") as mixed, ExitStack() as stack:
        table = table_of(
            backend(special.port, instance="special", limit=6),
            backend(mixed.port, instance="mixed", device="gpu", limit=6),
            backend(
                mixed.port, instance="mixed", device="gpu", role="embedding", models=("embedder",)
            ),
            scheduling=scheduling,
        )
        with serve_router(table) as router:
            open_all(stack, router.port, [named(f"q{i}") for i in range(8)])
            eventually(
                lambda: len(special.requests) + len(mixed.requests) == 8, "all are at the engines"
            )
            assert [len(special.requests), len(mixed.requests)] == expected
            assert decisions(router)[0].reason == reason


# Instances that join and that come back.


def test_a_new_instance_gets_little_at_first_however_idle_it_is() -> None:
    quick = Limits(sweep_tick_s=0.02)
    with (
        serve_pool("held", limit=60, limits=quick) as pool,
        serve_engine("held") as late,
        ExitStack() as stack,
    ):
        both = [backend(pool.engine.port, limit=60), backend(late.port, instance="late", limit=60)]
        pool.router.swap(table_of(*both, version=2))
        joined_at = pool.router.dispatcher.now
        eventually(lambda: pool.router.dispatcher.now > joined_at + 0.1, "it was swept")
        loads = {b.instance: b for b in pool.router.call(pool.router.dispatcher.snapshot)}
        assert loads["engine-a"].capacity == 60
        assert 2 <= loads["late"].capacity <= 15  # two more a second, and two at once
        open_all(stack, pool.port, [named(f"q{i}") for i in range(50)])
        eventually(lambda: len(pool.engine.requests) + len(late.requests) == 50, "all are there")
        assert 2 <= len(late.requests) <= 15


def test_an_instance_on_probation_gets_one_request_until_one_succeeds() -> None:
    port = unused_port()
    limits = Limits(eject_s=0.05, eject_max_s=0.05, sweep_tick_s=0.02)
    with serve_engine("ok") as other, ExitStack() as stack:
        table = table_of(backend(port, instance="late"), backend(other.port, instance="other"))
        with serve_router(table, limits) as router:

            def states() -> dict[str, str]:
                loads = router.call(router.dispatcher.snapshot)
                return {load.instance: load.state for load in loads}

            while states()["late"] == "available":
                assert instance_of(ask(router.port, named("x"))) == "other"
            other.behaviour = "held"
            late = stack.enter_context(serve_engine("held", port=port))
            eventually(lambda: states()["late"] == "probation", "it may be tried again")
            before = len(other.requests)
            clients = open_all(stack, router.port, [named(f"q{i}") for i in range(20)])
            eventually(
                lambda: len(late.requests) + len(other.requests) == before + 20,
                "all are at the engines",
            )
            assert len(late.requests) == 1
            late.let_go()
            eventually(lambda: states()["late"] == "available", "it is trusted again")
            other.let_go()
            assert {c.response().body for c in clients} == {ANSWER}


def test_what_waits_while_its_only_instance_is_ejected_is_served_when_it_is_back() -> None:
    limits = Limits(eject_s=1, eject_max_s=1, sweep_tick_s=0.02)
    with ExitStack() as stack:
        with serve_engine("held") as engine:
            port = engine.port
            table = table_of(backend(port, limit=1), scheduling=FIFO)
            router = stack.enter_context(serve_router(table, limits))
            first = occupy(stack, router, engine)
            unlucky, *clients = queue_up(stack, router, [named(f"q{i}") for i in range(10)])
        assert (first.response().status, unlucky.response().status) == (502, 502)
        successor = stack.enter_context(serve_engine("ok", port=port))
        assert count_waiting(router) == 9  # nobody else is sent to find out
        assert {c.response().body for c in clients} == {ANSWER}
        assert names_at(successor) == [f"q{i}" for i in range(1, 10)]


# How people and clients learn why.


def test_answers_name_the_instance_the_policy_and_the_reason() -> None:
    with serve_pool("ok", scheduling=PRIORITY) as pool:
        for priority, reason in (("critical", "lowest_latency"), ("low", "least_loaded")):
            headers = ask(pool.port, named("r", priority=priority)).headers
            assert headers["x-sagepool-instance"] == "engine-a"
            assert headers["x-sagepool-policy"] == "priority"
            assert headers["x-sagepool-reason"] == reason
            assert headers["x-request-id"] == "r"


def test_the_admin_port_names_every_decision_newest_first() -> None:
    with serve_pool("ok", "ok", scheduling=PRIORITY) as pool:
        responses = [ask(pool.port, named(f"r{i}", priority="high")) for i in range(5)]
        found = read_admin(pool.router, "/admin/decisions?n=4")
        assert [d["request_id"] for d in found] == ["r4", "r3", "r2", "r1"]
        for decision, response in zip(found, reversed(responses), strict=False):
            assert decision["instance"] == instance_of(response)
            assert decision["policy"] == response.headers["x-sagepool-policy"] == "priority"
            assert decision["reason"] == response.headers["x-sagepool-reason"] == "lowest_latency"
            assert (decision["model"], decision["role"], decision["priority"]) == ("ok", "llm", 1)
        first = read_admin(pool.router, "/admin/decisions")[-1]
        assert {option["instance"] for option in first["candidates"]} == {"engine-a", "engine-b"}


def test_the_admin_port_shows_what_waits_in_its_order_and_how_long_it_waited() -> None:
    scheduling = replace(PRIORITY, queue=QueueLimits(70, 50.0))
    with serve_pool("held", limit=1, scheduling=scheduling) as pool, ExitStack() as stack:
        occupy(stack, pool.router, pool.engine)
        requests = [named("late", priority="low"), named("soon", priority="critical", session="s")]
        clients = queue_up(stack, pool.router, requests)
        queue = read_admin(pool.router, "/admin/queue")
        assert (queue["waiting"], queue["max_requests"], queue["max_wait_seconds"]) == (2, 70, 50)
        (lane,) = queue["lanes"]
        assert (lane["model"], lane["waiting"], lane["flows"], lane["load"]) == ("ok", 2, 2, 1)
        assert lane["policy"] == "priority"
        assert [waiting["priority"] for waiting in lane["next"]] == [0, 3]
        assert lane["oldest_seconds"] == max(w["waited_seconds"] for w in lane["next"]) > 0
        pool.engine.let_go()
        assert [c.response().status for c in clients] == [200, 200]
        newest, before, _ = read_admin(pool.router, "/admin/decisions")
        assert (newest["request_id"], before["request_id"]) == ("late", "soon")
        assert newest["waited_seconds"] > before["waited_seconds"] > 0


def said(policy: str) -> dict[str, str]:
    """What the admin port says of a model whose policy the pool names."""
    return {"model": "ok", "role": "llm", "policy": policy, "reason": "spec.scheduling says so"}


def test_the_admin_port_shows_the_policy_in_use_and_follows_the_table() -> None:
    with serve_pool("ok", scheduling=FIFO) as pool:
        ask(pool.port, named("x"))
        shown = read_admin(pool.router, "/admin/policy")
        assert (shown["settings"]["policy"], shown["lanes"]) == ("fifo", [said("fifo")])
        assert shown["decisions"] == {"fifo least_loaded": 1}
        pool.router.swap(table_of(backend(pool.engine.port), version=2, scheduling=PRIORITY))
        ask(pool.port, named("x"))
        shown = read_admin(pool.router, "/admin/policy")
        assert (shown["settings"]["policy"], shown["lanes"]) == ("priority", [said("priority")])
        assert shown["decisions"] == {"fifo least_loaded": 1, "priority least_loaded": 1}
