"""A graceful stop: what is under way is finished within a limit, and told if it is not."""

from router_engines import ANSWER
from router_pool import serve_pool
from router_wire import ask, events, eventually, post, wire
from sagepool_router.limits import Limits


def test_requests_under_way_are_finished_and_their_connections_closed() -> None:
    with serve_pool("held") as pool, wire(pool.port) as client:
        client.send(post("ok"))
        eventually(lambda: pool.requests() == [1], "it is at the engine")
        drained = pool.router.drain(10)
        pool.engine.let_go()
        assert client.response().body == ANSWER
        assert client.rest() == (b"", "eof")
        drained.result(5)


def test_connections_that_stay_idle_are_closed() -> None:
    with (
        serve_pool("ok", limits=Limits(farewell_s=0.1, sweep_tick_s=0.02)) as pool,
        wire(pool.port) as fresh,
        wire(pool.port) as used,
    ):
        used.send(post("ok"))
        used.response()
        pool.router.drain(10).result(5)
        assert fresh.rest() == (b"", "eof")
        assert used.rest() == (b"", "eof")


def test_a_connection_in_use_is_told_with_its_next_answer_that_it_ends() -> None:
    with (
        serve_pool("ok", limits=Limits(farewell_s=60)) as pool,
        wire(pool.port) as client,
    ):
        client.send(post("ok"))
        assert "connection" not in client.response().headers
        pool.router.drain(10).result(5)
        client.send(post("ok"))
        response = client.response()
        assert (response.body, response.headers["connection"]) == (ANSWER, "close")
        assert client.rest() == (b"", "eof")


def test_a_request_that_comes_meanwhile_is_answered_on_a_connection_that_closes() -> None:
    with serve_pool("ok") as pool:
        pool.router.drain(10).result(5)
        response = ask(pool.port, post("ok"))
        assert (response.body, response.headers["connection"]) == (ANSWER, "close")


def test_a_request_that_is_not_answered_in_time_is_told_so() -> None:
    with serve_pool("silent") as pool, wire(pool.port) as client:
        client.send(post("ok"))
        eventually(lambda: pool.requests() == [1], "it is at the engine")
        pool.router.drain(0.1).result(5)
        response = client.response()
        assert (response.status, response.code) == (503, "shutting_down")
        assert client.rest() == (b"", "eof")


def test_a_stream_that_does_not_end_in_time_ends_with_an_event() -> None:
    with serve_pool("gap") as pool, wire(pool.port) as client:
        client.send(post("ok"))
        client.read_until(b"data: 1\n\n")
        pool.router.drain(0.1).result(5)
        body, ending = client.rest()
        assert '"code":"shutting_down"' in events(body)[-1]
        assert ending == "eof"


def test_pipelined_requests_are_finished_before_the_connection_closes() -> None:
    with serve_pool("held") as pool, wire(pool.port) as client:
        client.send(post("ok") * 3)
        eventually(lambda: pool.requests() == [1], "the first is at the engine")
        drained = pool.router.drain(10)
        pool.engine.let_go()
        assert [client.response().status for _ in range(3)] == [200] * 3
        assert client.rest() == (b"", "eof")
        drained.result(5)
