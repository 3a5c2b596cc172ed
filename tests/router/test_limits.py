"""Sizes and times that a client is held to, and what it costs the router."""

import json
import re
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

import router_embedders  # noqa: F401  # its behaviours are engines too
from router_engines import ANSWER, BIG_CHUNK, BIG_CHUNKS, Engine, serve_engine
from router_pool import serve_pool
from router_server import backend, serve_router, table_of
from router_wire import CHAT, ask, chat_body, eventually, post, raw, wire
from sagepool_router.limits import Limits
from sagepool_router.scheduling.settings import SchedulingSettings

TICK = 0.05
END = b"\r\n0\r\n\r\n"


# Sizes.


def test_a_body_above_the_limit_is_refused_by_its_length_before_it_is_sent(port: int) -> None:
    with wire(port) as client:
        client.send(raw(CHAT, b"", "content-length: 6000000"))
        response = client.response()
        assert (response.status, response.code) == (413, "body_too_large")
        assert "4194304" in str(response.error["message"])


@pytest.mark.parametrize("field", ["connection: close", "connection: keep-alive"])
def test_a_refusal_is_told_once(port: int, field: str) -> None:
    with wire(port) as client:
        client.send(raw(CHAT, b"", "content-length: 6000000", field))
        assert client.response().status == 413
        assert client.rest() == (b"", "eof")


def test_a_client_that_sends_all_of_a_refused_body_still_sees_why(port: int) -> None:
    with wire(port) as client:
        client.send_as_far_as_possible(post("ok", body=b"x" * 4_500_000))
        assert client.response().status == 413
        assert client.rest()[1] != "open"


def test_a_chunked_body_above_the_limit_is_refused_on_its_way(port: int) -> None:
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with wire(port) as client:
        client.send(raw(CHAT, b"", "transfer-encoding: chunked"))
        for _ in range(80):
            client.send_as_far_as_possible(piece)
        assert client.response().status == 413


def test_a_body_at_the_limit_is_taken(port: int) -> None:
    limit = 4 << 20
    body = chat_body("ok", pad="")
    body = body.replace(b'"pad": ""', b'"pad": "' + b"x" * (limit - len(body)) + b'"')
    assert len(body) == limit
    assert ask(port, post(body=body)).body == ANSWER


def test_bodies_held_at_a_time_have_a_budget() -> None:
    limits = Limits(body_budget_bytes=100_000, sweep_tick_s=TICK)
    with serve_pool("held", limits=limits) as pool:
        body = chat_body("ok", pad="x" * 60_000)
        with wire(pool.port) as first:
            first.send(post(body=body))
            eventually(lambda: len(pool.engine.requests) == 1, "the first is held")
            response = ask(pool.port, post(body=body))
            assert (response.status, response.code) == (503, "overloaded")
            assert int(response.headers["retry-after"]) >= 1
            pool.engine.let_go()
            assert first.response().body == ANSWER
        assert ask(pool.port, post(body=body)).body == ANSWER
        assert pool.router.dispatcher.held_body_bytes == 0


def test_copies_that_merging_makes_of_bodies_are_in_the_budget() -> None:
    scheduling = SchedulingSettings(embedding_batch_size=2)
    limits = Limits(body_budget_bytes=100_000, sweep_tick_s=TICK)
    body = json.dumps({"model": "ok", "input": ["x" * 10_000] * 4}).encode()
    request = post(path="/v1/embeddings", body=body)
    with serve_pool("embeds", role="embedding", limits=limits, scheduling=scheduling) as pool:
        dispatcher = pool.router.dispatcher
        with wire(pool.port) as client:
            client.send(request)
            eventually(lambda: len(pool.engine.requests) == 2, "both calls are at the engine")
            assert 120_000 <= dispatcher.held_body_bytes < 124_000
            assert ask(pool.port, request).code == "overloaded"
            pool.engine.let_go()
            assert client.response().status == 200
        assert ask(pool.port, request).status == 200
        eventually(lambda: dispatcher.held_body_bytes == 0, "all is given back")


def test_requests_under_way_have_a_limit() -> None:
    limits = Limits(max_inflight=2, sweep_tick_s=TICK)
    with (
        serve_pool("held", limits=limits) as pool,
        wire(pool.port) as first,
        wire(pool.port) as second,
    ):
        first.send(post("ok"))
        second.send(post("ok"))
        eventually(lambda: len(pool.engine.requests) == 2, "both are held")
        response = ask(pool.port, post("ok"))
        assert (response.status, response.code) == (503, "overloaded")
        pool.engine.let_go()
        assert {first.response().status, second.response().status} == {200}


def test_a_head_above_the_limit_is_a_431(port: int) -> None:
    with wire(port) as client:
        client.send(b"GET /health HTTP/1.1\r\nhost: x\r\n")
        for number in range(100):
            client.send_as_far_as_possible(b"x-%d: %b\r\n" % (number, b"y" * 1000))
            time.sleep(0.0005)
        response = client.response()
        assert (response.status, response.code) == (431, "head_too_large")
        assert client.rest()[1] != "open"


@pytest.mark.parametrize("path", ["/health", CHAT])
def test_a_head_above_the_limit_in_one_write_is_a_431(port: int, path: str) -> None:
    field = "x-bomb: " + "y" * 60_000
    response = ask(port, raw(path, b"", "content-length: 0", field))
    assert (response.status, response.code) == (431, "head_too_large")


def test_a_url_above_the_limit_is_a_431(port: int) -> None:
    assert ask(port, raw("/" + "x" * 60_000, b"", method="GET")).status == 431


def test_a_head_behind_many_pipelined_requests_is_not_blamed_for_them(
    port: int, engine: Engine
) -> None:
    before = len(engine.requests)
    big = post("slow_ok", body=chat_body("slow_ok", pad="x" * 60_000))
    with wire(port) as client:
        client.send(big + post("ok")[:40])
        eventually(lambda: len(engine.requests) > before, "the first is under way")
        client.send(post("ok")[40:])
        assert [client.response().status for _ in range(2)] == [200, 200]


# Times.


def test_a_head_that_does_not_end_is_a_408() -> None:
    with (
        serve_pool("ok", limits=Limits(header_s=0.2, sweep_tick_s=TICK)) as pool,
        wire(pool.port) as client,
    ):
        client.send(b"GET /hea")
        response = client.response()
        assert (response.status, response.code) == (408, "head_timeout")
        assert client.rest()[1] == "eof"


def test_a_head_that_trickles_is_a_408() -> None:
    with (
        serve_pool("ok", limits=Limits(header_s=0.2, sweep_tick_s=TICK)) as pool,
        wire(pool.port) as client,
    ):
        with suppress(ConnectionError):
            for byte in b"GET /" + b"x" * 60:
                client.send(bytes([byte]))
                time.sleep(0.01)
        assert client.response().status == 408


def test_a_body_that_does_not_come_is_a_408() -> None:
    with (
        serve_pool("ok", limits=Limits(upload_s=0.2, sweep_tick_s=TICK)) as pool,
        wire(pool.port) as client,
    ):
        client.send(post("ok")[:-3])
        response = client.response()
        assert (response.status, response.code) == (408, "body_timeout")
        assert client.rest()[1] == "eof"
        assert pool.router.dispatcher.held_body_bytes == 0


def test_a_body_for_the_app_that_does_not_come_is_a_408() -> None:
    with (
        serve_pool("ok", limits=Limits(upload_s=0.2, sweep_tick_s=TICK)) as pool,
        wire(pool.port) as client,
    ):
        client.send(raw("/echo", b"12", "content-length: 5"))
        response = client.response()
        assert (response.status, response.code) == (408, "body_timeout")
        assert client.rest() == (b"", "eof")


def test_a_body_for_the_app_that_is_broken_is_a_400(port: int) -> None:
    with wire(port) as client:
        client.send(raw("/echo", b"zz", "transfer-encoding: chunked"))
        response = client.response()
        assert (response.status, response.code) == (400, "invalid_http")
        assert client.rest() == (b"", "eof")


@pytest.mark.parametrize("requests", [0, 1])
def test_an_idle_connection_is_closed(requests: int) -> None:
    with (
        serve_pool("ok", limits=Limits(keepalive_s=0.2, sweep_tick_s=TICK)) as pool,
        wire(pool.port) as client,
    ):
        for _ in range(requests):
            client.send(post("ok"))
            assert client.response().status == 200
        assert client.rest() == (b"", "eof")


def test_an_idle_connection_to_an_engine_is_closed_before_the_engine_would() -> None:
    with serve_pool("ok", limits=Limits(pool_idle_s=0.2, sweep_tick_s=TICK)) as pool:
        ask(pool.port, post("ok"))
        eventually(lambda: pool.router.idle() == {"engine-a": 1}, "it is kept")
        eventually(lambda: pool.router.idle() == {"engine-a": 0}, "it is closed")


def test_a_connect_that_is_not_answered_is_given_up() -> None:
    # a listener whose queue is full does not answer
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        target = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(target)
        try:
            table = table_of(backend(target[1]))
            with serve_router(table, Limits(connect_s=0.2, sweep_tick_s=TICK)) as router:
                response = ask(router.port, post("ok"))
                assert (response.status, response.code) == (502, "engine_unreachable")
                assert response.error["message"] == "instance engine-a: cannot connect: timeout"
        finally:
            for filler in fillers:
                filler.close()


# Deadlines.


def test_a_deadline_that_passes_before_the_answer_is_a_504() -> None:
    with serve_pool("silent", limits=Limits(sweep_tick_s=5)) as pool:
        started = time.monotonic()
        response = ask(pool.port, post("ok", fields=("x-sagepool-deadline-ms: 100",)))
        assert (response.status, response.code) == (504, "deadline_exceeded")
        assert time.monotonic() - started < 4, "it does not wait for a sweep"
        eventually(lambda: pool.engine.closed_by_peer == 1, "the engine is hung up on")


def test_a_deadline_that_passes_in_a_stream_ends_it_with_an_event() -> None:
    with serve_pool("gap", limits=Limits(sweep_tick_s=5)) as pool:
        response = ask(pool.port, post("ok", fields=("x-sagepool-deadline-ms: 200",)))
        assert response.status == 200
        assert b'"code":"deadline_exceeded"' in response.body
        assert not response.is_whole


def test_a_deadline_counts_from_the_head_of_the_request() -> None:
    with serve_pool("ok", limits=Limits(sweep_tick_s=5)) as pool, wire(pool.port) as client:
        request = post("ok", fields=("x-sagepool-deadline-ms: 50",))
        client.send(request[:-2])
        eventually(lambda: bool(pool.router.dispatcher.exchanges), "its head has come")
        came_at = time.monotonic()
        eventually(lambda: time.monotonic() > came_at + 0.05, "its time is over")
        client.send(request[-2:])
        assert client.response().code == "deadline_exceeded"


def test_a_deadline_that_is_met_changes_nothing(port: int) -> None:
    with wire(port) as client:
        client.send(post("ok", fields=("x-sagepool-deadline-ms: 5000",)))
        assert client.response().body == ANSWER


# Back-pressure.


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match.group(1)) * 1024


def test_a_client_that_does_not_read_holds_the_engine_back_and_costs_no_memory() -> None:
    whole = BIG_CHUNK * BIG_CHUNKS
    with serve_pool("big", limits=Limits(sweep_tick_s=TICK)) as pool:
        before = resident_bytes()
        with wire(pool.port, receive_buffer=65536) as client:
            client.send(post("ok"))
            eventually(lambda: pool.router.phases() == ["paused"], "the client is waited for")
            eventually(lambda: pool.engine.is_held_back(), "the engine cannot send more")
            assert pool.engine.bytes_sent < whole / 4
            assert resident_bytes() - before < whole / 4
            assert client.skip_until(END) > whole


def test_a_client_that_stops_reading_is_dropped_after_a_while() -> None:
    limits = Limits(stall_s=0.3, sweep_tick_s=TICK)
    with (
        serve_pool("big", limits=limits) as pool,
        wire(pool.port, receive_buffer=65536) as client,
    ):
        client.send(post("ok"))
        eventually(lambda: pool.engine.bytes_sent > 0, "it has begun")
        eventually(lambda: pool.router.in_flight() == {"engine-a": 0}, "the slot is free")
        assert pool.router.dispatcher.counters.client_disconnects == 1


def test_a_connection_that_was_held_back_serves_the_next_request() -> None:
    with serve_engine() as engine:
        table = table_of(backend(engine.port, models=("big", "ok")))
        with serve_router(table) as router, wire(router.port, receive_buffer=65536) as client:
            client.send(post("big"))
            eventually(lambda: router.phases() == ["paused"], "the client is waited for")
            client.skip_until(END)
            client.send(post("ok"))
            assert client.response().body == ANSWER
            held_back, next_one = engine.requests
            assert next_one.connection == held_back.connection
