"""Where requests land, what refuses them, and what survives a new table."""

import ssl
from contextlib import ExitStack

import pytest

from router_engines import ANSWER, serve_engine
from router_pool import serve_pool
from router_server import backend, serve_router, table_of
from router_wire import Wire, ask, events, eventually, post, wire
from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings
from sagepool_router.table import EMPTY


def open_requests(stack: ExitStack, port: int, count: int) -> list[Wire]:
    clients = [stack.enter_context(wire(port)) for _ in range(count)]
    for client in clients:
        client.send(post("ok"))
    return clients


def test_a_hundred_at_once_over_four_idle_instances_land_25_each() -> None:
    with serve_pool("held", "held", "held", "held") as pool, ExitStack() as stack:
        clients = open_requests(stack, pool.port, 100)
        eventually(lambda: sum(pool.requests()) == 100, "all are at the engines")
        assert pool.requests() == [25, 25, 25, 25]
        assert set(pool.router.in_flight().values()) == {25}
        for engine in pool.engines:
            engine.let_go()
        assert {client.response().body for client in clients} == {ANSWER}
        eventually(lambda: set(pool.router.in_flight().values()) == {0}, "all is given back")


def test_with_every_instance_and_the_queue_full_a_request_is_a_429_with_both_hints() -> None:
    nobody_waits = SchedulingSettings(queue=QueueLimits(max_requests=0))
    with (
        serve_pool("held", "held", limit=2, scheduling=nobody_waits) as pool,
        ExitStack() as stack,
    ):
        clients = open_requests(stack, pool.port, 4)
        eventually(lambda: pool.requests() == [2, 2], "both are full")
        response = ask(pool.port, post("ok"))
        assert (response.status, response.code) == (429, "overloaded")
        assert response.error["type"] == "rate_limit_error"
        assert response.headers["retry-after"] in ("1", "2")
        # four were started within the first second: one place comes free in a quarter of it
        assert 900 <= int(response.headers["retry-after-ms"]) <= 1100
        for engine in pool.engines:
            engine.let_go()
        assert [client.response().status for client in clients] == [200] * 4
        assert ask(pool.port, post("ok")).status == 200


def test_an_unknown_model_is_a_404_that_lists_the_known_ones() -> None:
    with serve_pool("ok") as pool:
        response = ask(pool.port, post("gpt-9"))
        assert (response.status, response.code) == (404, "model_not_found")
        assert response.error["param"] == "model"
        assert "'gpt-9'" in str(response.error["message"])
        assert "models: ok" in str(response.error["message"])


def test_a_model_without_an_instance_is_a_503_that_says_why(port: int) -> None:
    response = ask(port, post("cold"))
    assert (response.status, response.code) == (503, "no_instance")
    assert response.headers["x-sagepool-reason"] == "rag-cold-1: loading"
    assert "rag-cold-1: loading" in str(response.error["message"])
    assert int(response.headers["retry-after"]) >= 1


def test_a_suspended_pool_is_a_503_that_says_so() -> None:
    with serve_router(table_of(absent={"chat": "suspended by hand"}, suspended=True)) as router:
        response = ask(router.port, post("chat"))
        assert (response.status, response.code) == (503, "suspended")
        assert "rag is suspended" in str(response.error["message"])


def test_before_the_first_table_every_model_is_a_503_that_says_so() -> None:
    with serve_router(EMPTY) as router:
        response = ask(router.port, post("ok"))
        assert (response.status, response.code) == (503, "no_table")
        assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("model", "path", "served"),
    [
        ("embedder", "/v1/chat/completions", "embedding"),
        ("embedder", "/v1/completions", "embedding"),
        ("ok", "/v1/embeddings", "llm"),
        ("ok", "/v1/rerank", "llm"),
        ("ok", "/score", "llm"),
    ],
)
def test_a_model_of_the_other_role_is_refused_and_its_role_named(
    port: int, model: str, path: str, served: str
) -> None:
    more: dict[str, object] = {"prompt": "x", "input": "x"}
    response = ask(port, post(model, path=path, **more))
    assert (response.status, response.code) == (400, "conflicting_request_type")
    assert f"served for role {served}" in str(response.error["message"])


@pytest.mark.parametrize("role", ["llm", "embedding"])
def test_tokenize_is_for_models_of_every_role(role: str) -> None:
    with serve_pool("ok", role=role) as pool:
        assert ask(pool.port, post("ok", path="/tokenize", prompt="x")).body == ANSWER


def test_a_stream_survives_a_table_without_its_instance() -> None:
    with serve_pool("held_stream") as pool, wire(pool.port) as client:
        client.send(post("ok"))
        client.read_until(b'{"n": 1}')
        pool.router.swap(table_of(absent={"ok": "gone"}, version=2))
        assert ask(pool.port, post("ok")).code == "no_instance"
        pool.engine.let_go()
        rest = client.read_until(b"0\r\n\r\n")
        assert b'{"n": 2}' in rest
        eventually(lambda: pool.engine.open_connections == 0, "its connection is not kept")


def test_a_new_table_keeps_connections_and_load_of_instances_that_stay() -> None:
    with serve_pool("ok", "ok") as pool:
        for _ in range(20):
            ask(pool.port, post("ok"))
        kept = pool.router.idle()["engine-a"]
        first = backend(pool.engine.port, instance="engine-a", limit=7)
        pool.router.swap(table_of(first, version=2))
        (load,) = pool.router.call(pool.router.dispatcher.snapshot)
        assert (load.instance, load.idle_connections, load.limit) == ("engine-a", kept, 7)
        eventually(lambda: pool.engines[1].open_connections == 0, "the other's are closed")


def test_a_new_instance_gets_requests_at_once() -> None:
    with serve_pool("ok") as pool, serve_engine("ok") as late:
        table = table_of(backend(late.port, instance="late"), version=2)
        pool.router.swap(table)
        assert ask(pool.port, post("ok")).headers["x-sagepool-instance"] == "late"


def test_usage_of_streams_and_answers_is_counted_by_model() -> None:
    with serve_engine() as engine:
        models = ("ok", "usage", "torn_usage", "mid_stream")
        with serve_router(table_of(backend(engine.port, models=models))) as router:
            for model in models:
                ask(router.port, post(model))
            counted = router.dispatcher.counters.by_model()
            tokens = {m: (c.prompt_tokens, c.completion_tokens) for (m, _), c in counted.items()}
            assert tokens == {
                "ok": (3, 2),
                "usage": (7, 9),
                "torn_usage": (7, 9),
                "mid_stream": (0, 0),
            }
            assert counted[("usage", "llm")].chunks >= 3
            assert counted[("ok", "llm")].codes == {200: 1}
            assert counted[("mid_stream", "llm")].codes == {502: 1}
            assert sum(counted[("ok", "llm")].first_byte_seconds.counts) == 1


def test_a_request_with_an_alias_is_counted_under_the_models_name() -> None:
    with serve_engine("ok") as engine:
        table = table_of(backend(engine.port), aliases={"nickname": "ok"})
        with serve_router(table) as router:
            assert events(ask(router.port, post("nickname")).body) == []
            assert set(router.dispatcher.counters.by_model()) == {("ok", "llm")}


def test_an_engine_behind_https_is_reached(tls_engine_port: int, trusted: ssl.SSLContext) -> None:
    table = table_of(backend(tls_engine_port, scheme="https", host="localhost"))
    with serve_router(table, tls=trusted) as router:
        assert ask(router.port, post("ok")).body == ANSWER


def test_a_certificate_that_is_not_trusted_is_a_502(tls_engine_port: int) -> None:
    table = table_of(backend(tls_engine_port, scheme="https", host="localhost"))
    with serve_router(table) as router:
        response = ask(router.port, post("ok"))
        assert (response.status, response.code) == (502, "engine_unreachable")


def test_a_mistake_of_the_routers_own_is_a_500_and_not_a_hanging_client() -> None:
    def broken() -> float:
        raise ZeroDivisionError

    table = table_of(backend(1), backend(2, instance="engine-b"))
    with serve_router(table, choose=broken) as router, wire(router.port) as client:
        client.send(post("ok") * 2)
        response = client.response()
        assert (response.status, response.code) == (500, "internal_error")
        assert client.rest() == (b"", "eof")
        eventually(lambda: not router.dispatcher.exchanges, "nothing is left")
