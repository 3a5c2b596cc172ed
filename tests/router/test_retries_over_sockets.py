"""A request that one engine fails is given to another, within rules."""

from contextlib import ExitStack

import pytest

from router_engines import ANSWER, serve_engine, unused_port
from router_pool import Pool, serve_pool
from router_scheduling import decisions, open_all, wait_waiting
from router_server import backend, serve_router, table_of
from router_wire import ask, events, eventually, post, wire
from sagepool_router.limits import Limits
from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings

BEFORE_THE_FIRST_BYTE = [
    "reset_before",
    "close_before",
    "half_head",
    "head_only",
    "not_http",
    "status_500",
    "status_502",
    "status_503",
    "status_504",
    "error_event_first",
]


def ask_until_both_were_tried(pool: Pool) -> list[int]:
    """The choice is random among equals: ask until the first engine had a request."""
    statuses = []
    while not pool.engines[0].requests:
        statuses.append(ask(pool.port, post("ok")).status)
        assert len(statuses) < 200
    return statuses


@pytest.mark.parametrize("fault", BEFORE_THE_FIRST_BYTE)
def test_a_fault_before_the_first_byte_is_not_seen_by_the_client(fault: str) -> None:
    with serve_pool(fault, "ok") as pool:
        statuses = ask_until_both_were_tried(pool)
        assert set(statuses) == {200}
        assert pool.requests()[1] == len(statuses)


@pytest.mark.parametrize("fault", ["mid_stream", "mid_json"])
def test_nothing_is_retried_after_the_first_byte(fault: str) -> None:
    with serve_pool(fault, fault) as pool:
        assert not ask(pool.port, post("ok")).is_whole
        assert sum(pool.requests()) == 1


@pytest.mark.parametrize(
    ("own_fault", "status"), [("bad_request", 400), ("not_found", 404), ("status_429", 429)]
)
def test_a_clients_own_fault_is_not_retried(own_fault: str, status: int) -> None:
    with serve_pool(own_fault, own_fault) as pool:
        assert ask(pool.port, post("ok")).status == status
        assert sum(pool.requests()) == 1


@pytest.mark.parametrize("status", ["status_424", "status_429", "status_503"])
def test_tei_is_retried_on_its_own_dialect(status: str) -> None:
    with serve_pool(status, "ok", engine="tei") as pool:
        assert set(ask_until_both_were_tried(pool)) == {200}


def test_the_500_of_tei_is_its_last_word() -> None:
    with serve_pool("status_500", "status_500", engine="tei") as pool:
        assert ask(pool.port, post("ok")).status == 500
        assert sum(pool.requests()) == 1


def test_at_most_one_retry_and_never_twice_to_the_same_instance() -> None:
    with serve_pool("status_503", "status_503", "status_503") as pool:
        response = ask(pool.port, post("ok"))
        assert response.status == 503
        assert sorted(pool.requests()) == [0, 1, 1]


def test_without_another_instance_the_engines_own_answer_is_passed_on() -> None:
    with serve_pool("status_503", "status_503") as pool:
        response = ask(pool.port, post("ok"))
        assert (response.status, response.code) == (503, 503)
        assert response.headers["x-sagepool-instance"] in ("engine-a", "engine-b")
        assert pool.requests() == [1, 1]


def test_two_instances_that_cannot_be_reached_are_passed_over() -> None:
    with serve_engine("ok") as engine:
        table = table_of(
            backend(unused_port(), instance="dead-1"),
            backend(unused_port(), instance="dead-2"),
            backend(engine.port, instance="alive"),
        )
        with serve_router(
            table, Limits(eject_s=0.01, eject_max_s=0.01, sweep_tick_s=0.02)
        ) as router:
            for _ in range(20):
                response = ask(router.port, post("ok"))
                assert response.headers["x-sagepool-instance"] == "alive"


def test_a_dead_instance_does_not_attract_requests() -> None:
    with serve_engine("ok") as engine:
        dead = backend(unused_port(), instance="dead")
        table = table_of(dead, backend(engine.port, instance="alive"))
        with serve_router(table, Limits(eject_s=60, eject_max_s=60)) as router:
            for _ in range(50):
                assert ask(router.port, post("ok")).status == 200
            assert router.dispatcher.counters.retries.get("connect", 0) <= 1


def test_an_instance_that_comes_back_is_used_again() -> None:
    port = unused_port()
    with serve_engine("ok") as other:
        table = table_of(backend(port, instance="late"), backend(other.port, instance="other"))
        limits = Limits(eject_s=0.05, eject_max_s=0.05, sweep_tick_s=0.02)
        with serve_router(table, limits) as router:
            for _ in range(20):
                ask(router.port, post("ok"))
            with serve_engine("ok", port=port) as late:

                def is_used() -> bool:
                    ask(router.port, post("ok"))
                    return bool(late.requests)

                eventually(is_used, "it gets requests")
                eventually(
                    lambda: (
                        {b.state for b in router.call(router.dispatcher.snapshot)} == {"available"}
                    ),
                    "it is no longer on probation",
                )


def test_a_streams_first_error_event_is_retried_and_the_client_sees_one_stream() -> None:
    with serve_pool("error_event_first", "usage") as pool:
        while not pool.engines[0].requests:
            response = ask(pool.port, post("ok", stream=True))
            assert (response.status, response.is_whole) == (200, True)
            assert events(response.body)[-1] == "[DONE]"


@pytest.mark.parametrize(
    ("path", "fault"),
    [("/v1/responses", "response_failed_first"), ("/v1/messages", "message_error_first")],
)
def test_the_first_error_of_every_dialect_is_retried(path: str, fault: str) -> None:
    with serve_pool(fault, "usage") as pool:
        while not pool.engines[0].requests:
            response = ask(pool.port, post("ok", path=path, input="x", stream=True))
            assert events(response.body)[-1] == "[DONE]"
        assert pool.router.dispatcher.counters.retries == {"error_frame": 1}


@pytest.mark.parametrize(
    ("path", "fault"),
    [("/v1/responses", "response_fails_later"), ("/v1/messages", "message_fails_later")],
)
def test_an_error_behind_the_event_that_opens_an_answer_is_passed_on(path: str, fault: str) -> None:
    with serve_pool(fault, fault) as pool:
        response = ask(pool.port, post("ok", path=path, input="x", stream=True))
        assert (response.status, response.is_whole) == (200, True)
        assert b"core died" in response.body
        assert sum(pool.requests()) == 1


def test_a_stream_that_begins_with_its_abort_is_retried() -> None:
    with serve_pool("abort_event_first", "usage") as pool:
        while not pool.engines[0].requests:
            response = ask(pool.port, post("ok", stream=True))
            assert events(response.body)[-1] == "[DONE]"
        assert pool.router.dispatcher.counters.retries == {"error_frame": 1}


@pytest.mark.parametrize("fault", ["status_503", "reset_before"])
def test_a_request_waits_for_an_engine_that_is_full_when_the_other_one_has_failed_it(
    fault: str,
) -> None:
    with ExitStack() as stack:
        broken, busy = (stack.enter_context(serve_engine(b)) for b in (fault, "held"))
        ends = [backend(busy.port, limit=1), backend(broken.port, instance="engine-b", limit=1)]
        router = stack.enter_context(serve_router(table_of(ends[0])))
        (first,) = open_all(stack, router.port, [post("ok")])
        eventually(lambda: len(busy.requests) == 1, "one engine is full")
        router.swap(table_of(*ends, version=2))
        (second,) = open_all(stack, router.port, [post("ok")])
        eventually(lambda: len(broken.requests) == 1, "the other one has failed it")
        eventually(
            lambda: router.call(lambda: router.dispatcher.scheduler.waiting) == 1, "it waits"
        )
        busy.let_go()
        assert [c.response().status for c in (first, second)] == [200, 200]
        assert (len(busy.requests), len(broken.requests)) == (2, 1)


def test_a_request_whose_engine_is_gone_waits_for_one_that_is_full() -> None:
    with ExitStack() as stack:
        busy = stack.enter_context(serve_engine("held"))
        ends = [backend(busy.port, limit=1), backend(unused_port(), instance="engine-b", limit=1)]
        router = stack.enter_context(serve_router(table_of(ends[0])))
        (first,) = open_all(stack, router.port, [post("ok")])
        eventually(lambda: len(busy.requests) == 1, "one engine is full")
        router.swap(table_of(*ends, version=2))
        (second,) = open_all(stack, router.port, [post("ok")])
        eventually(
            lambda: router.call(lambda: router.dispatcher.scheduler.waiting) == 1, "it waits"
        )
        busy.let_go()
        assert [c.response().status for c in (first, second)] == [200, 200]


def test_every_retry_is_counted_by_its_cause() -> None:
    with serve_pool("reset_before", "ok") as pool:
        ask_until_both_were_tried(pool)
        assert pool.router.dispatcher.counters.retries == {"reset": 1}


def test_a_retry_is_a_decision_of_its_own() -> None:
    with serve_pool("status_500", "ok") as pool:
        ask_until_both_were_tried(pool)
        *_, first, retry = decisions(pool.router)
        assert (first.place, retry.place) == ("engine-a", "engine-b")
        assert (first.request_id, retry.reason) == (retry.request_id, "retry")
        assert pool.router.call(lambda: retries(pool)) == 1


def retries(pool: Pool) -> int:
    """How many retries the decisions that were counted have."""
    counts = pool.router.dispatcher.scheduler.log.counts
    return sum(count for (_, reason), count in counts.items() if reason == "retry")


def test_the_body_of_a_retry_is_the_same() -> None:
    with serve_pool("status_503", "ok") as pool:
        ask_until_both_were_tried(pool)
        assert pool.engines[0].requests[0].body == pool.engines[1].requests[-1].body


def test_an_engine_that_dies_with_many_requests_costs_none_of_them() -> None:
    with serve_pool("held", "held", limit=128) as pool, ExitStack() as stack:
        clients = [stack.enter_context(wire(pool.port)) for _ in range(80)]
        for client in clients:
            client.send(post("ok"))
        eventually(lambda: pool.requests() == [40, 40], "all are at the engines")
        pool.engines[1].let_go()
        pool.engines[0].drop_connections()
        assert [client.response().body for client in clients] == [ANSWER] * 80


BROKEN = Limits(eject_s=60, eject_max_s=60, sweep_tick_s=0.02)
"""An instance that has failed is not tried again by itself."""


def test_while_the_only_instance_fails_one_request_at_a_time_finds_out() -> None:
    port = unused_port()
    with serve_router(table_of(backend(port)), BROKEN) as router, ExitStack() as stack:
        assert ask(router.port, post("ok")).code == "engine_unreachable"
        engine = stack.enter_context(serve_engine("held", port=port))
        clients = open_all(stack, router.port, [post("ok")] * 20)
        wait_waiting(router, 19)
        eventually(lambda: len(engine.requests) == 1, "one finds out")
        assert router.call(lambda: router.dispatcher.scheduler.waiting) == 19
        engine.let_go()
        assert [client.response().body for client in clients] == [ANSWER] * 20


@pytest.mark.parametrize(("max_requests", "waits"), [(100, True), (0, False)])
def test_who_waits_in_vain_for_instances_that_fail_is_told_so(
    max_requests: int, waits: bool
) -> None:
    port = unused_port()
    queue = QueueLimits(max_requests=max_requests, max_wait_s=1)
    table = table_of(backend(port), scheduling=SchedulingSettings(queue=queue))
    with serve_router(table, BROKEN) as router, ExitStack() as stack:
        assert ask(router.port, post("ok")).code == "engine_unreachable"
        engine = stack.enter_context(serve_engine("held", port=port))
        open_all(stack, router.port, [post("ok")])
        eventually(lambda: len(engine.requests) == 1, "one finds out")
        began = router.call(router.dispatcher.clock)
        response = ask(router.port, post("ok"))
        assert (response.status, response.code) == (503, "instances_failing")
        assert (router.call(router.dispatcher.clock) - began >= 0.5) is waits
        reason = response.headers["x-sagepool-reason"]
        assert "instance engine-a: cannot connect" in reason
        assert response.error["message"] == reason
        assert int(response.headers["retry-after"]) >= 1
        assert len(engine.requests) == 1
