"""What becomes of requests when engines or the provider let the pool down."""

import pytest

from router_cloud import said_of, serve_site
from router_engines import serve_engine
from router_server import backend, provider, serve_router, table_of
from router_wire import ask, eventually, post, wire


def test_what_waits_goes_to_the_provider_when_its_model_loses_the_last_instance() -> None:
    with serve_engine("ok") as theirs, serve_engine("held") as engine:
        table = table_of(backend(engine.port, limit=1), cloud=provider(theirs.port))
        with serve_router(table) as router, wire(router.port) as first, wire(router.port) as second:
            first.send(post())
            eventually(lambda: len(engine.requests) == 1, "the engine is full")
            second.send(post())
            scheduler = router.dispatcher.scheduler
            eventually(lambda: router.call(lambda: scheduler.waiting) == 1, "one waits")
            gone = table_of(absent={"ok": "gone"}, cloud=provider(theirs.port), version=2)
            router.swap(gone)
            assert said_of(second.response()) == ("cloud", "cloud_absent")
            engine.let_go()
            assert first.response().status == 200


@pytest.mark.parametrize("status", [401, 403])
def test_a_provider_that_refuses_the_pools_key_is_no_fault_of_the_client(status: int) -> None:
    with serve_site(f"status_{status}", "absent") as site:
        response = ask(site.port, post())
        assert (response.status, response.code) == (502, "provider_refused")
        assert "cloud.apiKeySecret" in str(response.error["message"])


def test_a_suspended_pool_answers_nothing_even_while_engines_are_still_there() -> None:
    with serve_engine("ok") as engine:
        table = table_of(backend(engine.port), suspended=True)
        with serve_router(table) as router:
            response = ask(router.port, post())
            assert (response.status, response.code) == (503, "suspended")
            assert engine.requests == []


def test_the_length_of_vectors_is_remembered_when_the_last_instance_has_gone() -> None:
    with serve_engine("embeds") as theirs, serve_engine("embeds") as engine:
        theirs.let_go()
        cloud = provider(theirs.port, same_space=("ok",))
        there = table_of(backend(engine.port, role="embedding"), cloud=cloud, dimension=1024)
        gone = table_of(absent={"ok": "gone"}, absent_role="embedding", cloud=cloud, version=2)
        with serve_router(there) as router:
            router.swap(gone)
            body = b'{"model": "ok", "input": "one text"}'
            response = ask(router.port, post(path="/v1/embeddings", body=body))
            assert (response.status, response.code) == (502, "other_embedding_space")
