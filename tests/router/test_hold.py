"""Requests for a model whose last engine has gone wait until one is back."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest

from router_cloud import said_of
from router_engines import serve_engine
from router_scheduling import count_waiting, named, open_all, queue_up
from router_server import backend, provider, serve_router, table_of
from router_wire import ask, eventually, post
from sagepool_crds.pool import InferencePool
from sagepool_router.limits import Limits
from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings
from sagepool_router.table import RoutingTable, build_table

QUICK = Limits(sweep_tick_s=0.02)
EMBEDDING = post(path="/v1/embeddings", body=b'{"model": "ok", "input": ["one text", "another"]}')


def at_zero(hold_s: float = 60.0, *, max_requests: int = 1000, role: str = "llm") -> RoutingTable:
    """The model has no engine, and what asks for it waits."""
    # Shorter than any test: it is not this limit that holds.
    queue = SchedulingSettings(queue=QueueLimits(max_requests, 0.05))
    return table_of(
        absent={"ok": "no engine runs"}, absent_role=role, hold_s=hold_s, scheduling=queue
    )


def test_requests_wait_for_an_engine_and_are_then_answered_in_their_order() -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("ok"))
        router = stack.enter_context(serve_router(at_zero(), QUICK))
        clients = queue_up(stack, router, [named(f"r{i}") for i in range(3)])
        assert engine.requests == []
        router.swap(table_of(backend(engine.port), version=2, hold_s=60))
        assert [client.response().status for client in clients] == [200] * 3
        assert [r.headers["x-request-id"] for r in engine.requests] == ["r0", "r1", "r2"]


def test_no_request_is_lost_while_a_pool_goes_to_zero_and_back_a_hundred_times() -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("ok"))
        router = stack.enter_context(serve_router(at_zero(), QUICK))
        is_over = threading.Event()

        def ask_again_and_again(client: int) -> list[int]:
            statuses = []
            while not is_over.is_set():
                request = named(f"client-{client}-{len(statuses)}")
                statuses.append(ask(router.port, request).status)
            return statuses

        with ThreadPoolExecutor(4) as clients:
            asking = [clients.submit(ask_again_and_again, number) for number in range(4)]
            for cycle in range(100):
                eventually(lambda: count_waiting(router) == 4, "every client waits for an engine")
                answered = len(engine.requests)
                router.swap(table_of(backend(engine.port), version=2 * cycle + 2, hold_s=60))
                # Gone again in the midst of it: some are at the engine, some come a moment later.
                eventually(lambda n=answered: len(engine.requests) >= n + 3, "the engine is asked")
                router.swap(replace(at_zero(), version=2 * cycle + 3))
            is_over.set()
            router.swap(table_of(backend(engine.port), version=1000, hold_s=60))
            statuses = [status for each in asking for status in each.result(timeout=30)]
        assert set(statuses) == {200}
        assert len(engine.requests) == len(statuses) >= 400


def test_embeddings_wait_too() -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("embeds"))
        engine.let_go()
        router = stack.enter_context(serve_router(at_zero(role="embedding"), QUICK))
        (client,) = queue_up(stack, router, [EMBEDDING])
        router.swap(table_of(backend(engine.port, role="embedding"), version=2))
        assert client.response().status == 200


def test_a_request_that_waits_says_that_the_group_is_wanted() -> None:
    with ExitStack() as stack:
        table = replace(at_zero(), groups={"chat": ("ok",)})
        router = stack.enter_context(serve_router(table, QUICK))
        queue_up(stack, router, [named("first")])
        (found,) = router.call(router.dispatcher.demand.report)
        assert (found.queued_requests, found.unmet_s is not None) == (1, True)


def test_no_request_waits_longer_than_it_is_held() -> None:
    with serve_router(at_zero(0.2), QUICK) as router:
        response = ask(router.port, named("first"))
        assert (response.status, response.code) == (503, "no_instance")
        assert response.headers["x-sagepool-reason"] == "no engine runs"
        assert int(response.headers["retry-after"]) > 0
        assert count_waiting(router) == 0


def test_a_deadline_of_its_own_ends_the_wait_before() -> None:
    with serve_router(at_zero(), QUICK) as router:
        response = ask(router.port, named("first", deadline_ms=100))
        assert (response.status, response.code) == (504, "deadline_exceeded")


def test_a_full_queue_refuses_and_says_that_no_engine_is_up() -> None:
    with ExitStack() as stack:
        router = stack.enter_context(serve_router(at_zero(max_requests=2), QUICK))
        queue_up(stack, router, [named("first"), named("second")])
        response = ask(router.port, named("third"))
        assert (response.status, response.code) == (429, "overloaded")
        assert "no instance of ok is up" in str(response.error["message"])


def test_a_client_that_leaves_frees_its_place() -> None:
    with ExitStack() as stack:
        router = stack.enter_context(serve_router(at_zero(), QUICK))
        (client,) = queue_up(stack, router, [named("first")])
        client.close()
        eventually(lambda: count_waiting(router) == 0, "its place is free")


def test_a_group_that_holds_nothing_refuses_at_once() -> None:
    with serve_router(at_zero(0), QUICK) as router:
        response = ask(router.port, named("first"))
        assert (response.status, response.code) == (503, "no_instance")


def test_a_suspended_pool_holds_nothing() -> None:
    table = table_of(absent={"ok": "suspended"}, suspended=True, hold_s=60)
    with serve_router(table, QUICK) as router:
        assert ask(router.port, named("first")).code == "suspended"


@pytest.mark.parametrize(("is_starting", "cause"), [(False, "absent"), (True, "starting")])
def test_the_provider_goes_first_where_it_may(*, is_starting: bool, cause: str) -> None:
    with serve_engine("ok") as theirs:
        cloud = provider(theirs.port, when=(cause,))
        table = table_of(absent={"ok": ""}, is_starting=is_starting, hold_s=60, cloud=cloud)
        with serve_router(table, QUICK) as router:
            assert said_of(ask(router.port, named("first"))) == ("cloud", f"cloud_{cause}")


def test_a_request_waits_where_the_provider_may_answer_only_for_other_causes() -> None:
    with ExitStack() as stack:
        engine = stack.enter_context(serve_engine("ok"))
        cloud = provider(engine.port, when=("starting",))
        table = table_of(absent={"ok": ""}, hold_s=60, cloud=cloud)
        router = stack.enter_context(serve_router(table, QUICK))
        (client,) = open_all(stack, router.port, [named("first")])
        eventually(lambda: count_waiting(router) == 1, "it waits")
        router.swap(table_of(absent={"ok": ""}, is_starting=True, hold_s=60, cloud=cloud))
        assert said_of(client.response()) == ("cloud", "cloud_starting")


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, 0),
        ({"maxReplicas": 2, "target": {"inFlight": 8}}, 0),
        ({"minReplicas": 0, "maxReplicas": 2, "target": {"inFlight": 8}}, 300),
        ({"minReplicas": 0, "maxReplicas": 2, "target": {"inFlight": 8}, "holdSeconds": 30}, 30),
        ({"mode": "external"}, 300),
        ({"mode": "external", "holdSeconds": 0}, 0),
    ],
)
def test_the_pool_says_how_long(scaling: dict[str, object] | None, expected: float) -> None:
    group = {
        "name": "chat",
        "role": "llm",
        "engine": {"type": "simulator"},
        "model": {"name": "ok", "aliases": ["short"]},
        **({"scaling": scaling} if scaling is not None else {}),
    }
    pool = {"metadata": {"name": "rag", "namespace": "default"}, "spec": {"groups": [group]}}
    table = build_table(InferencePool.from_object(pool), [], 1)
    assert [table.models[name].hold_s for name in ("ok", "short")] == [expected] * 2
