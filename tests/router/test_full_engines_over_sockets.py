"""An engine that has no room says 429: who was sent there waits until one has."""

import json
import time
from contextlib import ExitStack

import pytest

from router_embedders import embed
from router_engines import Engine, serve_engine
from router_pool import Pool, serve_pool
from router_scheduling import count_waiting, open_all, wait_waiting
from router_server import backend, serve_router, table_of
from router_wire import Response, ask, eventually, post, wire
from sagepool_router.limits import Limits
from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings

PATH = "/v1/embeddings"
QUICK = Limits(sweep_tick_s=0.02)
PATIENT = SchedulingSettings(max_embedding_wait_s=1.5)


def texts_post(given: object, *fields: str, path: str = PATH) -> bytes:
    name = "input" if path == PATH else "query"
    return post(path=path, fields=fields, body=json.dumps({"model": "ok", name: given}).encode())


def occupy(stack: ExitStack, pool: Pool, calls: int) -> None:
    """Give the engine so many calls."""
    for number in range(calls):
        open_all(stack, pool.port, [texts_post(f"first {number}")])
        eventually(lambda sent=number + 1: pool.requests() == [sent], "the engine is busy")


def embeddings(response: Response) -> list[object]:
    assert response.status == 200, response.body
    return [item["embedding"] for item in json.loads(response.body)["data"]]


def assert_all_is_given_back(pool: Pool) -> None:
    eventually(lambda: set(pool.router.in_flight().values()) == {0}, "all is given back")
    assert count_waiting(pool.router) == 0
    dispatcher = pool.router.dispatcher
    assert (len(dispatcher.exchanges), len(dispatcher.batches)) == (0, 0)
    assert dispatcher.held_body_bytes == 0


@pytest.mark.parametrize("path", [PATH, "/v1/rerank"])
@pytest.mark.parametrize("policy", ["hybrid", "fifo"])
def test_the_only_instance_is_asked_again_until_it_has_room(path: str, policy: str) -> None:
    scheduling = SchedulingSettings(policy=policy)
    with serve_pool(
        "full_twice", engine="tei", role="embedding", limits=QUICK, scheduling=scheduling
    ) as pool:
        assert ask(pool.port, texts_post("one", path=path)).status == 200
        assert pool.requests() == [3]
        assert pool.engine.requests[0].body == pool.engine.requests[2].body
        assert pool.router.dispatcher.counters.retries == {"overload": 2}
        assert_all_is_given_back(pool)


def test_the_pause_is_as_long_as_the_engine_asks_for() -> None:
    with serve_pool("full_for_a_second", engine="tei", role="embedding", limits=QUICK) as pool:
        start = time.monotonic()
        assert embeddings(ask(pool.port, texts_post("one"))) == [embed("one")]
        assert 0.9 < time.monotonic() - start < 5
        assert pool.requests() == [2]


def test_a_merged_call_without_room_costs_none_of_its_callers_anything() -> None:
    with (
        serve_pool(
            "full_for_many", engine="tei", role="embedding", limits=QUICK, scheduling=PATIENT
        ) as pool,
        ExitStack() as stack,
    ):
        occupy(stack, pool, calls=2)
        clients = open_all(stack, pool.port, [texts_post(f"t{i}") for i in range(20)])
        wait_waiting(pool.router, 20)
        pool.engine.let_go()
        for i, client in enumerate(clients):
            assert embeddings(client.response()) == [embed(f"t{i}")]
        calls = [json.loads(request.body)["input"] for request in pool.engine.requests[2:]]
        assert [len(call) for call in calls] == [20, 20]
        assert calls[0] == calls[1], "another order"
        assert_all_is_given_back(pool)


def test_a_large_request_loses_no_part_to_full_instances() -> None:
    texts = [f"text {i}" for i in range(200)]
    with serve_pool(
        "full_twice", "full_twice", engine="tei", role="embedding", limits=QUICK
    ) as pool:
        assert embeddings(ask(pool.port, texts_post(texts))) == [embed(text) for text in texts]
        assert_all_is_given_back(pool)


def test_what_comes_while_the_only_instance_is_full_waits_too() -> None:
    with (
        serve_pool("full", engine="tei", role="embedding", limits=QUICK) as pool,
        ExitStack() as stack,
    ):
        clients = open_all(stack, pool.port, [texts_post([f"a{i}", f"b{i}"]) for i in range(40)])
        wait_waiting(pool.router, 40)
        pool.engine.let_go()
        for i, client in enumerate(clients):
            assert embeddings(client.response()) == [embed(f"a{i}"), embed(f"b{i}")]
        assert_all_is_given_back(pool)


def test_who_leaves_while_waiting_again_is_not_sent_again() -> None:
    with serve_pool("full", engine="tei", role="embedding", limits=QUICK) as pool:
        with wire(pool.port) as client:
            client.send(texts_post("gone"))
            wait_waiting(pool.router, 1)
        eventually(lambda: count_waiting(pool.router) == 0, "its place in the queue is free")
        assert_all_is_given_back(pool)
        pool.engine.let_go()
        before = pool.requests()[0]
        assert embeddings(ask(pool.port, texts_post("here"))) == [embed("here")]
        assert b"gone" not in b"".join(r.body for r in pool.engine.requests[before:])


@pytest.mark.parametrize(
    ("field", "wait_s", "code"),
    [
        ("x-sagepool-deadline-ms: 300", 60.0, "deadline_exceeded"),
        ("x-sagepool-priority: high", 0.3, "queue_timeout"),
    ],
)
@pytest.mark.parametrize("given", ["one", [f"text {i}" for i in range(100)]])
def test_an_instance_that_stays_full_is_asked_seldom_and_for_as_long_as_may_be_waited(
    field: str, wait_s: float, code: str, given: object
) -> None:
    scheduling = SchedulingSettings(queue=QueueLimits(max_wait_s=wait_s))
    with serve_pool(
        "full", engine="tei", role="embedding", limits=QUICK, scheduling=scheduling
    ) as pool:
        response = ask(pool.port, texts_post(given, field))
        assert (response.status, response.code) == (504, code)
        assert 1 <= pool.requests()[0] <= 8
        assert_all_is_given_back(pool)


def test_waiting_again_and_again_counts_from_a_requests_arrival() -> None:
    scheduling = SchedulingSettings(queue=QueueLimits(max_wait_s=2.0))
    with serve_pool(
        "full", engine="tei", role="embedding", limits=QUICK, scheduling=scheduling
    ) as pool:
        start = time.monotonic()
        assert ask(pool.port, texts_post("one")).code == "queue_timeout"
        assert pool.requests()[0] >= 3
        assert 1.9 < time.monotonic() - start < 3.0


@pytest.mark.parametrize("first", [0, 1])
def test_who_was_refused_by_full_instances_takes_whichever_has_room_first(first: int) -> None:
    with (
        serve_pool("full", "full", engine="tei", role="embedding", limits=QUICK) as pool,
        wire(pool.port) as client,
    ):
        client.send(texts_post("one"))
        eventually(lambda: min(pool.requests()) > 0, "both were asked")
        pool.engines[first].let_go()
        assert embeddings(client.response()) == [embed("one")]


def test_without_a_queue_the_engines_own_answer_is_passed_on() -> None:
    scheduling = SchedulingSettings(queue=QueueLimits(max_requests=0))
    with serve_pool("full", engine="tei", role="embedding", scheduling=scheduling) as pool:
        response = ask(pool.port, texts_post("one"))
        assert response.status == 429
        assert response.error["type"] == "overloaded"
        assert response.headers["x-sagepool-instance"] == "engine-a"
        assert_all_is_given_back(pool)


def test_a_full_instance_is_passed_over_while_another_has_room() -> None:
    with serve_pool("full", "embeds", engine="tei", role="embedding", limits=QUICK) as pool:
        pool.engines[1].let_go()
        for number in range(40):
            response = ask(pool.port, texts_post(f"text {number}"))
            assert embeddings(response) == [embed(f"text {number}")]
        assert pool.requests()[0] <= 5


def texts_at(engine: Engine) -> list[object]:
    """Every text that the engine was sent, as often as it was."""
    given = [json.loads(request.body) for request in engine.requests]
    lists = [body.get("input", body.get("query")) for body in given]
    return [text for each in lists for text in (each if isinstance(each, list) else [each])]


@pytest.mark.parametrize(
    ("path", "given", "faults"),
    [
        (PATH, "one", ("status_503", "full")),
        ("/v1/rerank", "one", ("status_503", "full")),
        (PATH, ["one", "two", "three"], ("fails_several", "full_for_several")),
    ],
)
def test_who_waits_for_a_full_instance_does_not_go_back_to_one_that_failed_it(
    path: str, given: object, faults: tuple[str, str]
) -> None:
    with serve_engine(faults[0]) as failing, serve_engine(faults[1]) as full:
        engines = {"failing": failing, "full": full}
        table = table_of(
            *(
                backend(e.port, instance=n, engine="tei", role="embedding")
                for n, e in engines.items()
            ),
            scheduling=SchedulingSettings(embedding_batch_size=2),
        )
        with serve_router(table, QUICK, choose=lambda: 0.0) as router, wire(router.port) as client:
            client.send(texts_post(given, path=path))
            eventually(lambda: len(full.requests) >= 3, "the full one was asked again")
            full.let_go()
            assert client.response().status == 200
            sent = texts_at(failing)
            assert sent
            assert len(sent) == len(set(map(str, sent))), "a text went there twice"


def test_who_waits_for_an_instance_that_goes_away_takes_what_is_left() -> None:
    with serve_engine("status_503") as failing, serve_engine("full") as full:
        left, gone = (
            backend(e.port, instance=n, engine="tei", role="embedding")
            for n, e in (("left", failing), ("gone", full))
        )
        with (
            serve_router(table_of(left, gone), QUICK, choose=lambda: 0.0) as router,
            wire(router.port) as client,
        ):
            client.send(texts_post("one"))
            eventually(lambda: len(full.requests) >= 2, "the full one was asked again")
            failing.behaviour = "full"
            failing.let_go()
            router.swap(table_of(left, version=2))
            assert embeddings(client.response()) == [embed("one")]
