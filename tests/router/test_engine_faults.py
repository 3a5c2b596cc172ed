"""Engines that misbehave, seen from a client's socket."""

import json

import pytest

import router_embedders  # noqa: F401  # its behaviours are engines too
from router_engines import ANSWER, BEHAVIOURS, Engine, serve_engine, unused_port
from router_pool import serve_pool
from router_server import RouterServer, backend, serve_router, table_of
from router_wire import ask, events, eventually, post, wire
from sagepool_router.limits import Limits


def test_a_whole_answer_is_passed_on_with_the_names_of_request_and_instance(port: int) -> None:
    response = ask(port, post("ok", fields=("x-request-id: mine",)))
    assert (response.status, response.body) == (200, ANSWER)
    assert response.headers["x-request-id"] == "mine"
    assert response.headers["x-sagepool-instance"] == "engine-a"
    assert response.headers["content-type"] == "application/json"


def test_a_stream_is_passed_on_event_by_event(port: int, engine: Engine) -> None:
    engine.hold()
    with wire(port) as client:
        client.send(post("held_stream"))
        client.read_until(b'data: {"n": 1}\n\n')
        engine.let_go()
        assert b'data: {"n": 2}' in client.read_until(b"0\r\n\r\n")


@pytest.mark.parametrize("fault", ["close_before", "reset_before", "half_head", "head_only"])
def test_an_engine_that_ends_before_its_answer_is_a_502(port: int, fault: str) -> None:
    response = ask(port, post(fault))
    assert (response.status, response.code) == (502, "engine_failed")
    assert response.error["type"] == "upstream_error"


@pytest.mark.parametrize("fault", ["endless_head", "giant_head"])
def test_an_engine_whose_head_is_too_large_is_a_502(port: int, fault: str) -> None:
    response = ask(port, post(fault))
    assert (response.status, response.code) == (502, "engine_failed")
    assert "head" in str(response.error["message"])


def test_an_engine_that_aborts_at_once_is_a_502(port: int) -> None:
    response = ask(port, post("abort_event_first", stream=True))
    assert (response.status, response.code) == (502, "engine_failed")
    assert response.headers["x-sagepool-instance"] == "engine-a"


def test_an_engine_that_does_not_speak_http_is_a_502(port: int) -> None:
    response = ask(port, post("not_http"))
    assert response.status == 502
    assert "invalid response" in str(response.error["message"])


def test_a_stream_that_breaks_ends_with_an_error_event_and_without_its_end(port: int) -> None:
    response = ask(port, post("mid_stream"))
    assert (response.status, response.is_whole) == (200, False)
    first, second, *_, last = events(response.body)
    assert (first, second) == ("1", "2")
    assert '"code":"engine_failed"' in last


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/messages", {"type": "error", "error": {"type": "api_error"}}),
        ("/v1/responses", {"type": "error", "code": "engine_failed", "param": None}),
    ],
)
def test_a_stream_that_breaks_says_so_in_the_form_of_its_route(
    port: int, path: str, said: dict[str, object]
) -> None:
    response = ask(port, post("mid_stream", path=path, input="hi", max_tokens=9))
    assert (response.status, response.is_whole) == (200, False)
    *_, name, data = response.body.decode().strip().splitlines()
    assert name == "event: error"
    found = json.loads(data.removeprefix("data: "))
    detail = found.get("error", found)
    assert "engine-a: the engine closed the connection" in detail.pop("message")
    assert found == said


def test_a_sized_body_that_breaks_is_cut_short(port: int) -> None:
    response = ask(port, post("mid_json"))
    assert (response.status, response.body, response.is_whole) == (200, b'{"half":', False)


def test_a_chunked_body_that_breaks_lacks_its_last_chunk(port: int) -> None:
    response = ask(port, post("mid_chunked_json"))
    assert (response.status, response.body, response.is_whole) == (200, b'{"half":', False)


def test_a_body_that_ends_with_the_engines_connection_is_whole(port: int) -> None:
    response = ask(port, post("close_delimited"))
    assert (response.status, response.body, response.is_whole) == (200, b"hello world", True)


@pytest.mark.parametrize("kind", ["early_100", "early_hints"])
def test_informational_answers_are_dropped(port: int, kind: str) -> None:
    response = ask(port, post(kind))
    assert (response.status, response.body) == (200, ANSWER)
    assert "link" not in response.headers


def test_trailers_are_dropped(port: int) -> None:
    response = ask(port, post("trailers"))
    assert (response.body, response.is_whole) == (b"body", True)
    assert "x-trailer" not in response.headers


def test_an_answer_without_a_body_keeps_the_connection(port: int) -> None:
    with wire(port) as client:
        client.send(post("no_content"))
        assert client.response().status == 204
        client.send(post("ok"))
        assert client.response().body == ANSWER


@pytest.mark.parametrize("fault", ["second_answer", "junk_after"])
def test_bytes_behind_an_answer_never_reach_the_next_request(port: int, fault: str) -> None:
    with wire(port) as client:
        client.send(post(fault))
        assert client.response().body == ANSWER
        for _ in range(3):
            client.send(post("ok"))
            assert client.response().body == ANSWER
        assert client.is_silent()


def test_junk_on_an_idle_connection_costs_the_connection(
    router: RouterServer, engine: Engine
) -> None:
    ask(router.port, post("junk_later"))
    eventually(lambda: router.idle()["engine-a"] == 0, "the connection is closed")
    assert ask(router.port, post("ok")).body == ANSWER


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.002, 0.02])
def test_no_request_is_lost_to_a_connection_that_the_engine_closed_for_being_idle(
    delay: float,
) -> None:
    with serve_engine("idle_close") as engine:
        table = table_of(backend(engine.port))
        with serve_router(table) as router, wire(router.port) as client:
            for _ in range(40):
                client.send(post("ok", delay=delay))
                assert client.response().body == ANSWER


def test_a_connection_to_an_engine_is_used_again() -> None:
    with serve_engine("ok") as engine, serve_router(table_of(backend(engine.port))) as router:
        with wire(router.port) as client:
            for _ in range(5):
                client.send(post("ok"))
                client.response()
        assert (len(engine.requests), engine.connections) == (5, 1)


def test_a_silent_engine_is_a_504_and_is_hung_up_on() -> None:
    limits = Limits(first_byte_s=0.2, sweep_tick_s=0.05)
    with serve_pool("silent", limits=limits) as pool:
        response = ask(pool.port, post("ok"))
        assert (response.status, response.code) == (504, "engine_timeout")
        eventually(lambda: pool.engine.closed_by_peer == 1, "the engine is hung up on")


def test_a_gap_in_a_stream_is_an_error_event() -> None:
    limits = Limits(gap_s=0.2, sweep_tick_s=0.05)
    with serve_pool("gap", limits=limits) as pool:
        response = ask(pool.port, post("ok"))
        assert (response.status, response.is_whole) == (200, False)
        assert '"code":"engine_timeout"' in events(response.body)[-1]
        eventually(lambda: pool.engine.closed_by_peer == 1, "the engine is hung up on")


def test_a_stream_with_short_gaps_outlives_the_limit_of_one() -> None:
    limits = Limits(gap_s=0.4, first_byte_s=5, sweep_tick_s=0.05)
    with serve_pool("torn_usage", limits=limits) as pool:
        assert ask(pool.port, post("ok")).is_whole


def test_the_total_time_ends_even_a_stream_that_flows() -> None:
    limits = Limits(total_s=0.3, sweep_tick_s=0.05)
    with serve_pool("gap", limits=limits) as pool:
        response = ask(pool.port, post("ok"))
        assert '"code":"request_timeout"' in events(response.body)[-1]


@pytest.mark.parametrize(
    ("total_s", "deadline_ms", "code", "name"),
    [
        (0.3, 60_000, "request_timeout", "--total-timeout-seconds"),
        (60.0, 200, "deadline_exceeded", "x-sagepool-deadline-ms"),
    ],
)
def test_the_refusal_names_the_limit_that_was_met(
    total_s: float, deadline_ms: int, code: str, name: str
) -> None:
    limits = Limits(total_s=total_s, sweep_tick_s=0.05)
    with serve_pool("held", limits=limits) as pool:
        field = f"x-sagepool-deadline-ms: {deadline_ms}"
        response = ask(pool.port, post("ok", fields=(field,)))
        assert (response.status, response.code) == (504, code)
        assert name in str(response.error["message"])


def test_an_engine_that_cannot_be_reached_is_a_502_that_names_it() -> None:
    with serve_router(table_of(backend(unused_port()))) as router:
        response = ask(router.port, post("ok"))
        assert (response.status, response.code) == (502, "engine_unreachable")
        assert "engine-a" in str(response.error["message"])
        assert router.in_flight() == {"engine-a": 0}


@pytest.mark.parametrize("host", ["engine.invalid", "x..y", f"{'x' * 64}.example"])
def test_a_name_that_does_not_resolve_is_a_502(host: str) -> None:
    with serve_router(table_of(backend(80, host=host)), Limits(connect_s=60)) as router:
        response = ask(router.port, post("ok"))
        assert (response.status, response.code) == (502, "engine_unreachable")


def test_an_engines_own_errors_pass_as_they_are(port: int) -> None:
    response = ask(port, post("bad_request"))
    assert (response.status, response.error["message"]) == (400, "too long")
    assert ask(port, post("not_found")).status == 404


@pytest.mark.parametrize(
    ("path", "code", "texts"),
    [("/v1/embeddings", 413, 1), ("/v1/embeddings", 413, 100), ("/v1/rerank", "Validation", 1)],
)
def test_an_error_of_tei_comes_in_the_shape_of_openai(path: str, code: object, texts: int) -> None:
    with serve_pool("refuses_as_tei", engine="tei", role="embedding") as pool:
        body = json.dumps({"model": "ok", "input": ["x"] * texts}).encode()
        request = post(path=path, body=body)
        with wire(pool.port) as client:
            for _ in range(2):
                client.send(request)
                response = client.response()
                assert (response.status, response.is_whole) == (413, True)
                assert response.error == {
                    "message": "too long",
                    "type": "Validation",
                    "param": None,
                    "code": code,
                }
                assert response.headers["content-type"] == "application/json"
                assert response.headers["x-sagepool-instance"] == "engine-a"
                if texts == 1:
                    assert response.headers["x-compute-tokens"] == "7"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_the_only_engines_own_5xx_passes_when_there_is_no_other(port: int, status: int) -> None:
    response = ask(port, post(f"status_{status}"))
    assert (response.status, response.code) == (status, status)
    assert response.headers["x-sagepool-instance"] == "engine-a"


@pytest.mark.parametrize(
    ("fault", "status"), [("error_event_first", 500), ("bad_request_event_first", 400)]
)
def test_a_stream_that_begins_with_an_error_becomes_a_status(
    port: int, fault: str, status: int
) -> None:
    with wire(port) as client:
        client.send(post(fault, stream=True))
        response = client.response()
        assert (response.status, response.code) == (status, status)
        assert response.headers["content-type"] == "application/json"
        client.send(post("ok"))
        assert client.response().body == ANSWER


@pytest.mark.parametrize(
    ("path", "fault", "said"),
    [
        ("/v1/responses", "response_failed_first", {"code": "server_error"}),
        ("/v1/messages", "message_error_first", {"type": "internal_error"}),
    ],
)
def test_the_first_error_of_every_dialect_becomes_a_status(
    port: int, path: str, fault: str, said: dict[str, str]
) -> None:
    response = ask(port, post(fault, path=path, input="x", stream=True))
    assert response.status == 500
    assert response.headers["content-type"] == "application/json"
    assert response.error == {"message": "core died", **said}


def test_a_first_event_that_comes_in_pieces_is_passed_on_whole(port: int) -> None:
    response = ask(port, post("torn_first_event"))
    assert events(response.body) == ['{"a": 1}', "[DONE]"]
    assert response.is_whole


def test_every_fault_gives_its_slot_back(router: RouterServer) -> None:
    slow = ("silent", "gap", "held", "held_stream", "big", "embeds")
    for name in (n for n in BEHAVIOURS if n not in slow and not n.startswith("full")):
        with wire(router.port) as client:
            client.send(post(name))
            client.response()
    eventually(lambda: set(router.in_flight().values()) == {0}, "nothing is in flight")
    assert not router.dispatcher.exchanges
    assert router.dispatcher.held_body_bytes == 0
