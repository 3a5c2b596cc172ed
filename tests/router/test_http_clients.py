"""What clients send: versions, framing, pipelining, upgrades and broken HTTP."""

import json

import pytest

from router_engines import ANSWER, Engine, serve_engine
from router_pool import serve_pool
from router_server import RouterServer, backend, serve_router, table_of
from router_wire import CHAT, ask, chat_body, chunked, events, eventually, post, raw, wire

HEALTH = raw("/health", b"", method="GET")
BODY = chat_body("ok")
CHUNKED = "transfer-encoding: chunked"
H2C = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AA")


def length_of(body: bytes) -> str:
    return f"content-length: {len(body)}"


# Keep-alive, HTTP/1.0 and closing.


def test_a_connection_serves_many_requests(port: int) -> None:
    with wire(port) as client:
        for _ in range(5):
            client.send(post("ok"))
            assert client.response().body == ANSWER


def test_connection_close_is_obeyed_after_a_sized_body(port: int) -> None:
    with wire(port) as client:
        client.send(post("ok", fields=("connection: close",)))
        response = client.response()
        assert (response.body, response.headers["connection"]) == (ANSWER, "close")
        assert client.rest() == (b"", "eof")


def test_connection_close_is_obeyed_after_a_stream(port: int) -> None:
    with wire(port) as client:
        client.send(post("usage", fields=("connection: close",)))
        response = client.response()
        assert (response.is_whole, events(response.body)[-1]) == (True, "[DONE]")
        assert client.rest() == (b"", "eof")


@pytest.mark.parametrize("fields", [(), ("connection: keep-alive",)])
def test_http_1_0_gets_its_answer_and_the_connection_closes(
    port: int, fields: tuple[str, ...]
) -> None:
    with wire(port) as client:
        client.send(post("ok", version="1.0", fields=fields))
        assert client.response().body == ANSWER
        assert client.rest() == (b"", "eof")


def test_http_1_0_gets_a_stream_without_chunks(port: int) -> None:
    with wire(port) as client:
        client.send(post("usage", version="1.0"))
        response = client.response()
        assert "transfer-encoding" not in response.headers
        assert (response.is_whole, events(response.body)[-1]) == (True, "[DONE]")


def test_http_1_0_learns_of_a_broken_stream_by_an_event(port: int) -> None:
    response = ask(port, post("mid_stream", version="1.0"))
    assert '"code":"engine_failed"' in events(response.body)[-1]


def test_http_1_0_learns_of_a_broken_body_by_a_reset(port: int) -> None:
    with wire(port) as client:
        client.send(post("mid_chunked_json", version="1.0"))
        client.read_until(b'{"half":')
        assert client.rest() == (b"", "reset")


# Pipelining.


def test_pipelined_requests_are_answered_in_their_order(port: int) -> None:
    with wire(port) as client:
        client.send(post("slow_ok") + post("usage") + post("who"))
        assert client.response().body == ANSWER
        assert events(client.response().body)[-1] == "[DONE]"
        assert json.loads(client.response().body)["path"] == CHAT


def test_requests_of_the_app_keep_their_place_between_others(port: int) -> None:
    with wire(port) as client:
        client.send(post("slow_ok") + HEALTH + post("ok") + HEALTH + HEALTH + post("ok"))
        bodies = [client.response().body for _ in range(6)]
        health = b'{"ok":true}'
        assert bodies == [ANSWER, health, ANSWER, health, health, ANSWER]


def test_an_app_request_before_an_inference_request_is_answered_first(port: int) -> None:
    with wire(port) as client:
        client.send(HEALTH + post("ok"))
        assert client.response().body == b'{"ok":true}'
        assert client.response().body == ANSWER


def test_thousands_of_pipelined_requests_are_answered(port: int) -> None:
    count = 3001
    with wire(port) as client:
        client.send(post("slow_ok") + post("ok") * (count - 1))
        assert all(client.response().status == 200 for _ in range(count))


def test_a_refused_request_in_the_middle_of_a_pipeline_keeps_its_place(port: int) -> None:
    with wire(port) as client:
        client.send(post("slow_ok") + post("nobody") + post("ok"))
        assert [client.response().status for _ in range(3)] == [200, 404, 200]


def test_garbage_behind_requests_is_told_after_their_answers(port: int) -> None:
    with wire(port) as client:
        client.send(post("slow_ok") + post("ok") + b"\x00garbage\r\n\r\n")
        assert [client.response().body for _ in range(2)] == [ANSWER, ANSWER]
        response = client.response()
        assert (response.status, response.code) == (400, "invalid_http")
        assert client.rest() == (b"", "eof")


def test_garbage_behind_an_app_request_is_told_after_its_answer(port: int) -> None:
    with wire(port) as client:
        client.send(HEALTH + b"\x00garbage\r\n\r\n")
        assert client.response().status == 200
        assert client.response().code == "invalid_http"


def test_a_client_that_leaves_frees_what_it_had_queued(
    router: RouterServer, engine: Engine
) -> None:
    eventually(lambda: engine.silences == 0, "earlier requests are over")
    with wire(router.port) as client:
        client.send(post("silent") + post("ok") + post("ok"))
        eventually(lambda: engine.silences == 1, "the first is at the engine")
    eventually(lambda: router.in_flight()["engine-a"] == 0, "the slot is free")
    eventually(lambda: engine.silences == 0, "the engine is hung up on")
    eventually(lambda: not router.dispatcher.exchanges, "nothing is left")


# Clients that leave.


@pytest.mark.parametrize("model", ["silent", "gap"])
def test_a_client_that_leaves_frees_its_slot_at_the_engine(
    router: RouterServer, engine: Engine, model: str
) -> None:
    eventually(lambda: engine.silences == 0, "earlier requests are over")
    with wire(router.port) as client:
        client.send(post(model))
        eventually(lambda: engine.silences == 1, "it is at the engine")
    eventually(lambda: router.in_flight()["engine-a"] == 0, "the slot is free")
    eventually(lambda: engine.silences == 0, "the engine is hung up on")


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing(
    router: RouterServer,
) -> None:
    with wire(router.port) as client:
        client.send(post("ok")[:-3])
        eventually(lambda: len(router.dispatcher.exchanges) == 1, "it is known")
    eventually(lambda: not router.dispatcher.exchanges, "it is forgotten")
    assert router.dispatcher.held_body_bytes == 0


# Paths and methods.


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_a_405_that_names_post_and_keep_the_connection(
    port: int, method: str
) -> None:
    with wire(port) as client:
        client.send(raw(CHAT, b"", method=method))
        response = client.response()
        assert (response.status, response.code) == (405, "method_not_allowed")
        assert response.headers["allow"] == "POST"
        client.send(post("ok"))
        assert client.response().status == 200


def test_head_is_a_405_without_a_body(port: int) -> None:
    with wire(port) as client:
        client.send(raw(CHAT, b"", method="HEAD"))
        assert client.response(to_head=True).status == 405
        client.send(post("ok"))
        assert client.response().body == ANSWER


def test_another_method_with_a_body_is_a_405_that_closes(port: int) -> None:
    with wire(port) as client:
        client.send(raw(CHAT, BODY, length_of(BODY), method="PUT"))
        assert client.response().status == 405
        assert client.rest() == (b"", "eof")


@pytest.mark.parametrize("target", [f"{CHAT}?api-version=1", f"http://router{CHAT}"])
def test_a_query_or_a_whole_url_is_the_same_route(port: int, target: str) -> None:
    said = json.loads(ask(port, post("who", path=target)).body)
    assert said["path"] == CHAT


def test_other_paths_are_the_apps(port: int) -> None:
    assert ask(port, HEALTH).body == b'{"ok":true}'
    assert ask(port, raw("/v1/nothing", b"", method="GET")).status == 404


def test_a_body_for_the_app_arrives_whole(port: int) -> None:
    body = b"x" * 200_000
    response = ask(port, raw("/echo", body, length_of(body)))
    assert json.loads(response.body) == {"size": len(body)}


def test_a_target_without_a_path_is_a_400(port: int) -> None:
    response = ask(port, raw("router:443", b"", method="GET"))
    assert (response.status, response.code) == (400, "invalid_http")


# Upgrades.


def test_a_body_behind_an_h2c_upgrade_is_read(port: int) -> None:
    with wire(port) as client:
        client.send(post("who", fields=H2C))
        said = json.loads(client.response().body)
        assert json.loads(said["body"])["model"] == "who"
        client.send(post("ok"))
        assert client.response().body == ANSWER


def test_a_body_behind_an_h2c_upgrade_may_come_later_and_chunked(port: int) -> None:
    with wire(port) as client:
        client.send(raw(CHAT, b"", CHUNKED, *H2C))
        assert client.is_silent()
        client.send(chunked(BODY[:5], BODY[5:]))
        assert client.response().body == ANSWER


def test_a_websocket_upgrade_is_ignored(port: int) -> None:
    fields = ("connection: Upgrade", "upgrade: websocket", "sec-websocket-key: AA==")
    assert ask(port, post("ok", fields=fields)).body == ANSWER


def test_an_upgrade_on_the_apps_routes_is_ignored_and_the_body_read(port: int) -> None:
    with wire(port) as client:
        client.send(raw("/health", b"", *H2C, method="GET"))
        assert client.response().status == 200
        client.send(raw("/echo", b"12345", length_of(b"12345"), *H2C))
        assert json.loads(client.response().body) == {"size": 5}
        client.send(raw(CHAT, b"", *H2C, method="GET"))
        assert client.response().status == 405


def test_connect_is_a_400(port: int) -> None:
    assert ask(port, b"CONNECT router:443 HTTP/1.1\r\nhost: x\r\n\r\n").code == "invalid_http"


def test_an_upgrade_behind_a_pipelined_request_keeps_its_place(port: int) -> None:
    with wire(port) as client:
        client.send(post("slow_ok") + post("ok", fields=H2C))
        assert [client.response().status for _ in range(2)] == [200, 200]


# Framing.


def test_a_chunked_body_arrives_whole(port: int) -> None:
    body = b"5;ext=1\r\n" + BODY[:5] + b"\r\n" + chunked(BODY[5:])
    body = body[:-2] + b"x-request-id: trailer\r\n\r\n"
    response = ask(port, raw(CHAT, body, CHUNKED))
    assert response.body == ANSWER
    assert response.headers["x-request-id"] != "trailer"


def test_a_body_in_chunks_of_one_byte_arrives_whole(port: int) -> None:
    body = chat_body("who")
    pieces = [bytes([byte]) for byte in body]
    said = json.loads(ask(port, raw(CHAT, chunked(*pieces), CHUNKED)).body)
    assert said["body"].encode() == body


def test_a_request_that_comes_byte_by_byte_is_answered(port: int) -> None:
    with wire(port) as client:
        for byte in post("ok"):
            client.send(bytes([byte]))
        assert client.response().body == ANSWER


@pytest.mark.parametrize(
    "fields",
    [
        (length_of(BODY), CHUNKED),
        (length_of(BODY), length_of(BODY)),
        (length_of(BODY), "content-length: 1"),
        (f"content-length: {len(BODY)}, {len(BODY)}",),
        (f"content-length: +{len(BODY)}",),
        ("content-length: -1",),
        ("content-length: 0x10",),
        ("content-length:",),
        (CHUNKED, CHUNKED),
        (f"content-length : {len(BODY)}",),
        ("x: a\r\n b", length_of(BODY)),
    ],
    ids=lambda fields: " | ".join(fields).replace("\r\n", "~"),
)
def test_ambiguous_framing_is_a_400_that_closes(port: int, fields: tuple[str, ...]) -> None:
    with wire(port) as client:
        client.send(raw(CHAT, BODY, *fields))
        response = client.response()
        assert (response.status, response.code) == (400, "invalid_http")
        assert response.headers["connection"] == "close"
        assert response.headers["x-request-id"]
        client.rest()
        assert client.ending != "open"


@pytest.mark.parametrize("coding", ["gzip, chunked", "xchunked", "gzip"])
def test_an_encoding_that_would_not_be_undone_is_a_501_that_closes(port: int, coding: str) -> None:
    with wire(port) as client:
        client.send(raw(CHAT, chunked(BODY), f"transfer-encoding: {coding}"))
        response = client.response()
        assert (response.status, response.code) == (501, "unsupported_transfer_encoding")
        assert client.rest()[1] != "open"


def test_a_compressed_body_is_a_415(port: int) -> None:
    response = ask(port, post("ok", fields=("content-encoding: gzip",)))
    assert (response.status, response.code) == (415, "unsupported_content_encoding")


def test_lines_that_end_in_a_bare_line_feed_are_a_400(port: int) -> None:
    request = f"POST {CHAT} HTTP/1.1\nhost: x\n{length_of(BODY)}\n\n".encode() + BODY
    assert ask(port, request).code == "invalid_http"


def test_a_missing_host_is_tolerated(port: int) -> None:
    request = f"POST {CHAT} HTTP/1.1\r\n{length_of(BODY)}\r\n\r\n".encode() + BODY
    assert ask(port, request).status == 200


def test_http_2_0_in_the_request_line_is_a_505(port: int) -> None:
    response = ask(port, post("ok", version="2.0"))
    assert (response.status, response.code) == (505, "http_version_not_supported")


def test_garbage_is_a_400(port: int) -> None:
    response = ask(port, b"\x00garbage\r\n\r\n")
    assert (response.status, response.code) == (400, "invalid_http")
    assert response.error["type"] == "invalid_request_error"


def test_a_post_without_a_length_is_a_411(port: int) -> None:
    response = ask(port, raw(CHAT, b""))
    assert (response.status, response.code) == (411, "length_required")


def test_a_post_with_an_empty_body_is_a_400(port: int) -> None:
    response = ask(port, raw(CHAT, b"", "content-length: 0"))
    assert (response.status, response.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"model"', "invalid_json"),
        (b"[]", "invalid_body"),
        (b'"text"', "invalid_body"),
        (b'{"model":"ok","x":' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b'{"model":"ok","messages":NaN}', "invalid_json"),
    ],
    ids=["torn", "list", "text", "deep", "byte order mark", "not a number"],
)
def test_a_body_that_is_no_json_object_is_a_400(port: int, body: bytes, code: str) -> None:
    with wire(port) as client:
        client.send(post(body=body))
        response = client.response()
        assert (response.status, response.code) == (400, code)
        client.send(post("ok"))
        assert client.response().body == ANSWER


# 100-continue.


def expecting() -> bytes:
    return raw(CHAT, b"", length_of(BODY), "expect: 100-continue")


def test_100_continue_comes_before_the_body(port: int) -> None:
    with wire(port) as client:
        client.send(expecting())
        assert client.response().status == 100
        client.send(BODY)
        assert client.response().body == ANSWER


def test_100_continue_waits_for_its_turn(port: int) -> None:
    with wire(port) as client:
        client.send(post("slow_ok") + expecting())
        assert client.response().body == ANSWER
        assert client.response().status == 100
        client.send(BODY)
        assert client.response().body == ANSWER


def test_http_1_0_gets_no_100_continue(port: int) -> None:
    with wire(port) as client:
        client.send(raw(CHAT, b"", length_of(BODY), "expect: 100-continue", version="1.0"))
        assert client.is_silent()
        client.send(BODY)
        assert client.response().status == 200


def test_a_body_that_is_too_large_is_refused_instead_of_100_continue(port: int) -> None:
    response = ask(port, raw(CHAT, b"", "content-length: 99999999", "expect: 100-continue"))
    assert (response.status, response.code) == (413, "body_too_large")


# What an engine gets to see.


def test_only_what_an_engine_needs_is_passed_on() -> None:
    fields = (
        "authorization: Bearer secret",
        "cookie: secret",
        "x-forwarded-for: 10.0.0.1",
        "content-type: application/x-www-form-urlencoded",
        "x-request-id: mine",
    )
    with serve_engine("ok") as engine, serve_router(table_of(backend(engine.port))) as router:
        ask(router.port, post("ok", fields=fields))
        assert engine.requests[0].headers == {
            "host": f"127.0.0.1:{engine.port}",
            "content-type": "application/json",
            "x-request-id": "mine",
            "content-length": str(len(BODY)),
        }
        assert engine.requests[0].body == BODY


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "h\xe9"])
def test_a_request_id_that_is_not_short_visible_ascii_is_replaced(port: int, sent: str) -> None:
    response = ask(port, post("ok", fields=(f"x-request-id: {sent}",)))
    assert response.headers["x-request-id"].isascii()
    assert response.headers["x-request-id"] not in (sent, "")


def test_request_ids_are_unique(port: int) -> None:
    ids = {ask(port, post("ok")).headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


def test_an_alias_becomes_the_engines_name_and_the_rest_stays_as_it_was(port: int) -> None:
    body = b'{"x": {"model": "nickname"}, "model" :"nickname" , "messages":[{"n": 1.50}]}'
    said = json.loads(ask(port, post(body=body)).body)
    assert said["body"].encode() == body.replace(b'"model" :"nickname"', b'"model" :"who"')


def test_the_path_of_an_engines_address_stands_before_the_route() -> None:
    with serve_engine("ok") as engine:
        table = table_of(backend(engine.port, prefix="/team/a"))
        with serve_router(table) as router:
            ask(router.port, post("ok"))
            assert engine.requests[0].path == f"/team/a{CHAT}"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/rerank", "/rerank", "/v1/score", "/score"])
def test_embedding_routes_reach_embedding_engines_by_their_own_path(path: str) -> None:
    with serve_pool("ok", role="embedding") as pool:
        response = ask(pool.port, post(path=path, body=b'{"model":"ok","input":"x"}'))
        assert response.status == 200
        assert pool.engine.requests[0].path == path
