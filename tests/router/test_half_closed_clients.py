"""A client that closes its half of a connection has left: its connection ends, whatever it has
asked for, and nothing of it stays behind."""

import socket

import pytest

from router_engines import Engine
from router_pool import serve_pool
from router_server import RouterServer
from router_wire import CHAT, eventually, post, raw, wire
from sagepool_router.limits import Limits

TICK = 0.05


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        post("ok")[:9],
        post("ok")[:-3],
        raw("/echo", b"", "content-length: 5"),
        raw(CHAT, b"", "content-length: 5", "expect: 100-continue"),
        raw(CHAT, b"", "transfer-encoding: chunked"),
    ],
    ids=["nothing", "head", "body", "app's body", "invited body", "chunked body"],
)
def test_a_connection_ends_whatever_was_begun_on_it(router: RouterServer, sent: bytes) -> None:
    with wire(router.port) as client:
        client.send(sent)
        if sent:
            eventually(lambda: bool(router.dispatcher.clients), "it is known")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest()[1] == "eof"
    eventually(lambda: not router.dispatcher.clients, "the connection is forgotten")
    assert not router.dispatcher.exchanges
    assert router.dispatcher.held_body_bytes == 0


@pytest.mark.parametrize("model", ["silent", "gap"])
@pytest.mark.parametrize("queued", [0, 1, 4])
def test_an_engine_is_not_kept_busy_for_it(
    router: RouterServer, engine: Engine, model: str, queued: int
) -> None:
    eventually(lambda: engine.silences == 0, "earlier requests are over")
    with wire(router.port) as client:
        client.send(post(model) + post("ok") * queued)
        eventually(lambda: engine.silences == 1, "it is at the engine")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest()[1] == "eof"
    eventually(lambda: engine.silences == 0, "the engine is hung up on")
    eventually(lambda: router.in_flight()["engine-a"] == 0, "the slot is free")
    eventually(lambda: not router.dispatcher.clients, "the connection is forgotten")
    assert not router.dispatcher.exchanges


def test_a_refused_upload_that_ends_is_not_waited_for() -> None:
    limits = Limits(linger_s=600, sweep_tick_s=TICK)
    with serve_pool("ok", limits=limits) as pool, wire(pool.port) as client:
        client.send(raw(CHAT, b"x", "content-length: 99999999"))
        assert client.response().status == 413
        assert client.rest()[1] == "eof"
        assert pool.router.dispatcher.clients
        client.socket.shutdown(socket.SHUT_WR)
        eventually(lambda: not pool.router.dispatcher.clients, "the connection is forgotten")


def test_it_ends_after_a_while_even_if_nothing_is_read_on_it() -> None:
    limits = Limits(stall_s=0.3, sweep_tick_s=TICK)
    with (
        serve_pool("big", limits=limits) as pool,
        wire(pool.port, receive_buffer=65536) as client,
    ):
        client.send(post("ok"))
        eventually(lambda: pool.engine.bytes_sent > 0, "it has begun")
        client.socket.shutdown(socket.SHUT_WR)
        eventually(lambda: not pool.router.dispatcher.clients, "the connection is forgotten")
        assert pool.router.in_flight() == {"engine-a": 0}
        assert not pool.router.dispatcher.exchanges
