"""What waits: how much and how long, what ends its wait, and what it survives."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import openai

from router_engines import ANSWER, serve_engine
from router_pool import Pool, serve_pool
from router_scheduling import (
    count_waiting,
    named,
    names_at,
    occupy,
    open_all,
    queue_up,
    read_admin,
    wait_waiting,
)
from router_server import backend, serve_router, table_of
from router_wire import Response, ask, eventually
from sagepool_router.limits import Limits
from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings
from sagepool_router.table import RoutingTable

PRIORITIES = ("background", "critical", "low", "high", "normal")
BY_URGENCY = ("critical", "high", "normal", "low", "background")
QUICK = Limits(sweep_tick_s=0.05)


def queue_of(max_requests: int = 1000, max_wait_s: float = 60.0) -> SchedulingSettings:
    return SchedulingSettings(policy="fifo", queue=QueueLimits(max_requests, max_wait_s))


def slow_clock() -> float:
    """Seconds of which each takes a hundred."""
    return time.monotonic() / 100


def drained_per_second(pool: Pool) -> float:
    (lane,) = read_admin(pool.router, "/admin/queue")["lanes"]
    return float(lane["drained_per_second"])


def refused(pool: Pool) -> Response:
    response = ask(pool.port, named("refused"))
    assert (response.status, response.code) == (429, "overloaded")
    return response


# How much may wait.


def test_a_full_queue_refuses_and_tells_when_those_before_will_have_been_served() -> None:
    with serve_pool("held", limit=1, scheduling=queue_of(3)) as pool, ExitStack() as stack:
        occupy(stack, pool.router, pool.engine)
        queue_up(stack, pool.router, [named(f"q{i}") for i in range(3)])
        told = []
        for before in (3, 4, 5, 6):  # each is promised a place behind the one before
            fastest = drained_per_second(pool)
            response = refused(pool)
            slowest = drained_per_second(pool)
            told.append(int(response.headers["retry-after-ms"]) / 1000)
            assert 0.89 * 3 / fastest <= told[-1] <= 1.11 * before / slowest
            assert told[-1] <= int(response.headers["retry-after"]) < told[-1] + 1.001
        assert told[-1] > told[0]
        assert count_waiting(pool.router) == 3
        assert names_at(pool.engine) == ["first"]


def refusals(pool: Pool) -> int:
    return pool.router.dispatcher.counters.by_model()["ok", "llm"].codes.get(429, 0)


def test_a_client_that_comes_back_when_it_was_told_gets_in() -> None:
    with serve_pool("held", limit=1, scheduling=queue_of(1)) as pool, ExitStack() as stack:
        first = occupy(stack, pool.router, pool.engine)
        (second,) = queue_up(stack, pool.router, [named("second")])
        client = stack.enter_context(
            openai.OpenAI(base_url=f"{pool.router.url}/v1", api_key="none", max_retries=1)
        )
        thread = stack.enter_context(ThreadPoolExecutor(1))
        create = client.chat.completions.with_raw_response.create
        answer = thread.submit(
            lambda: create(model="ok", messages=[{"role": "user", "content": "x"}])
        )
        eventually(lambda: refusals(pool) == 1, "it is refused")
        pool.engine.let_go()
        assert answer.result(10).retries_taken == 1
        assert answer.result().content == ANSWER
        assert [first.response().status, second.response().status] == [200, 200]


def test_all_who_come_back_when_they_were_told_get_in_although_the_queue_is_short() -> None:
    with serve_pool("slow_ok", limit=2, scheduling=queue_of(4)) as pool:

        async def ask_all() -> list[int]:
            async with openai.AsyncOpenAI(
                base_url=f"{pool.router.url}/v1", api_key="none", max_retries=3
            ) as client:
                create = client.chat.completions.with_raw_response.create
                answers = [
                    create(model="ok", messages=[{"role": "user", "content": str(number)}])
                    for number in range(16)
                ]
                return [answer.retries_taken for answer in await asyncio.gather(*answers)]

        retries = asyncio.run(ask_all())
        assert sum(1 for taken in retries if taken) >= 8, "most are refused at first"


def test_a_client_that_leaves_while_it_waits_frees_its_place() -> None:
    with serve_pool("held", limit=1, scheduling=queue_of(2)) as pool, ExitStack() as stack:
        first = occupy(stack, pool.router, pool.engine)
        leaving, staying = queue_up(stack, pool.router, [named("leaving"), named("staying")])
        refused(pool)
        leaving.close()
        wait_waiting(pool.router, 1)
        (late,) = queue_up(stack, pool.router, [named("late")])
        pool.engine.let_go()
        assert [c.response().status for c in (first, staying, late)] == [200] * 3
        assert names_at(pool.engine) == ["first", "staying", "late"]
        eventually(lambda: pool.router.in_flight() == {"engine-a": 0}, "all is given back")


def test_the_queue_is_one_for_all_models_and_each_is_served_by_its_own_instances() -> None:
    with serve_engine("held") as busy, serve_engine("ok") as idle, ExitStack() as stack:
        table = table_of(
            backend(busy.port, models=("busy",), limit=1),
            backend(idle.port, instance="engine-b", models=("idle",)),
            scheduling=queue_of(1),
        )
        with serve_router(table) as router:
            occupy(stack, router, busy, model="busy")
            queue_up(stack, router, [named("waits", model="busy")])
            assert ask(router.port, named("more", model="busy")).status == 429
            assert ask(router.port, named("other", model="idle")).body == ANSWER


# How long.


def test_what_finds_no_place_in_time_is_a_504_that_names_the_setting() -> None:
    scheduling = queue_of(max_wait_s=0.2)
    with (
        serve_pool("held", limit=1, limits=QUICK, scheduling=scheduling) as pool,
        ExitStack() as stack,
    ):
        first = occupy(stack, pool.router, pool.engine)
        response = ask(pool.port, named("too late"))
        assert (response.status, response.code) == (504, "queue_timeout")
        assert "at its limit for 0.2 s" in str(response.error["message"])
        assert "spec.scheduling.queue.maxWaitSeconds" in str(response.error["message"])
        assert count_waiting(pool.router) == 0
        pool.engine.let_go()
        assert first.response().body == ANSWER
        assert ask(pool.port, named("next")).body == ANSWER
        assert names_at(pool.engine) == ["first", "next"]


def test_a_deadline_that_passes_in_the_queue_is_a_504_and_no_engine_sees_the_request() -> None:
    with serve_pool("held", limit=1, scheduling=queue_of()) as pool, ExitStack() as stack:
        occupy(stack, pool.router, pool.engine)
        response = ask(pool.port, named("late", deadline_ms=150))
        assert (response.status, response.code) == (504, "deadline_exceeded")
        assert count_waiting(pool.router) == 0
        pool.engine.let_go()
        assert ask(pool.port, named("next")).body == ANSWER
        assert names_at(pool.engine) == ["first", "next"]


def test_a_deadline_that_is_kept_ends_with_the_request() -> None:
    with serve_pool("held", limit=1, scheduling=queue_of()) as pool, ExitStack() as stack:
        occupy(stack, pool.router, pool.engine)
        (client,) = queue_up(stack, pool.router, [named("in time", deadline_ms=20_000)])
        (waiting,) = read_admin(pool.router, "/admin/queue")["lanes"][0]["next"]
        assert 10 < waiting["seconds_to_deadline"] <= 20
        pool.engine.let_go()
        assert client.response().body == ANSWER


# What it survives, and what not.


def later(table: RoutingTable, **changes: object) -> RoutingTable:
    """The next table."""
    return replace(table, version=table.version + 1, **changes)  # type: ignore[arg-type]  # its own


def test_200_that_wait_survive_a_table_and_another_policy_which_orders_them() -> None:
    given = [(f"{PRIORITIES[i % 5]}-{i}", PRIORITIES[i % 5]) for i in range(200)]
    # Who waits ten seconds rises a level; to send so many may take as long.
    serving = serve_pool("held", limit=1, scheduling=queue_of(), clock=slow_clock)
    with serving as pool, ExitStack() as stack:
        first = occupy(stack, pool.router, pool.engine)
        clients = queue_up(stack, pool.router, [named(n, priority=p) for n, p in given])
        table = pool.router.dispatcher.fleet.table
        pool.router.swap(later(table))
        assert count_waiting(pool.router) == 200
        pool.router.swap(later(table, scheduling=replace(queue_of(), policy="priority")))
        assert count_waiting(pool.router) == 200
        pool.engine.let_go()
        assert {c.response().body for c in (first, *clients)} == {ANSWER}
        in_order = [n for urgency in BY_URGENCY for n, p in given if p == urgency]
        assert names_at(pool.engine) == ["first", *in_order]
        eventually(lambda: pool.router.in_flight() == {"engine-a": 0}, "all is given back")


def test_what_waits_goes_to_an_instance_that_joins() -> None:
    with serve_pool("held", limit=1, scheduling=queue_of()) as pool, serve_engine("ok") as late:
        with ExitStack() as stack:
            occupy(stack, pool.router, pool.engine)
            clients = queue_up(stack, pool.router, [named(f"q{i}") for i in range(20)])
            both = [backend(pool.engine.port, limit=1), backend(late.port, instance="late")]
            pool.router.swap(table_of(*both, version=2, scheduling=queue_of()))
            instances = {c.response().headers["x-sagepool-instance"] for c in clients}
            assert instances == {"late"}
        assert names_at(late) == [f"q{i}" for i in range(20)]


def test_what_waits_while_its_model_has_no_instance_goes_to_the_one_that_comes_back() -> None:
    with serve_pool("held", limit=1, scheduling=queue_of()) as pool, ExitStack() as stack:
        first = occupy(stack, pool.router, pool.engine)
        clients = queue_up(stack, pool.router, [named(f"q{i}") for i in range(3)])
        pool.router.swap(table_of(absent={"ok": "gone"}, version=2, scheduling=queue_of()))
        pool.engine.let_go()
        assert first.response().body == ANSWER  # it was under way
        assert count_waiting(pool.router) == 3
        with serve_engine("ok") as successor:
            back = backend(successor.port, instance="back", limit=1)
            pool.router.swap(table_of(back, version=3, scheduling=queue_of()))
            assert {c.response().body for c in clients} == {ANSWER}
            assert names_at(successor) == ["q0", "q1", "q2"]


def test_what_waits_too_long_for_an_instance_is_told_that_there_is_none() -> None:
    scheduling = queue_of(max_wait_s=0.3)
    with (
        serve_pool("held", limit=1, limits=QUICK, scheduling=scheduling) as pool,
        ExitStack() as stack,
    ):
        occupy(stack, pool.router, pool.engine)
        (client,) = open_all(stack, pool.port, [named("waits")])
        wait_waiting(pool.router, 1)
        pool.router.swap(table_of(absent={"ok": "starting"}, version=2, scheduling=scheduling))
        response = client.response()
        assert (response.status, response.code) == (503, "no_instance")
        assert response.headers["x-sagepool-reason"] == "starting"


def test_a_model_that_the_pool_drops_refuses_what_waits_and_ends_what_is_under_way() -> None:
    with serve_pool("held", limit=1, scheduling=queue_of()) as pool, ExitStack() as stack:
        first = occupy(stack, pool.router, pool.engine)
        clients = queue_up(stack, pool.router, [named(f"q{i}") for i in range(5)])
        pool.router.swap(table_of(absent={"other": "starting"}, version=2))
        for client in clients:
            response = client.response()
            assert (response.status, response.code) == (404, "model_not_found")
            assert "models: other" in str(response.error["message"])
        assert count_waiting(pool.router) == 0
        pool.engine.let_go()
        assert first.response().body == ANSWER
        assert names_at(pool.engine) == ["first"]


def test_what_waits_when_the_router_stops_is_told_so() -> None:
    with serve_pool("held", limit=1, scheduling=queue_of()) as pool, ExitStack() as stack:
        occupy(stack, pool.router, pool.engine)
        clients = queue_up(stack, pool.router, [named(f"q{i}") for i in range(30)])
        pool.router.drain(0).result(10)
        assert {(r.status, r.code) for r in (c.response() for c in clients)} == {
            (503, "shutting_down")
        }
        assert names_at(pool.engine) == ["first"]
