"""What a request costs, by model and key, and the line that tells of it on demand."""

import json
import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

import router_embedders  # noqa: F401  # its behaviours are engines too
from router_engines import serve_engine, unused_port
from router_keys import bearer, key_named, read_keys, write_keys
from router_pool import Pool, serve_pool
from router_scheduling import open_all, read_page
from router_server import backend, serve_router, table_of
from router_wire import ask, eventually, post, wire
from sagepool_router.limits import Limits
from sagepool_router.scheduling.settings import SchedulingSettings

EMBEDDINGS = "/v1/embeddings"


def test_gpu_time_is_counted_by_model_and_key(tmp_path: Path) -> None:
    keys = read_keys(write_keys(tmp_path / "keys.yaml", alice={}, bob={}))
    with serve_pool("slow_ok", keys=keys) as pool:
        for _ in range(2):
            assert ask(pool.port, post(fields=(bearer("alice"),))).status == 200
        router = pool.router
        counts = router.dispatcher.counters.by_model()[("ok", "llm")]
        eventually(lambda: router.call(lambda: counts.gpu_seconds) > 0, "it is counted")
        alice, bob = key_named(router.dispatcher, "alice"), key_named(router.dispatcher, "bob")
        # one at a time on one GPU: all of its time
        assert alice.usage.gpu_seconds == pytest.approx(counts.gpu_seconds)
        assert counts.gpu_seconds <= counts.request_seconds.total
        assert bob.usage.gpu_seconds == 0


def texts_post(texts: object, *fields: str) -> bytes:
    body = json.dumps({"model": "ok", "input": texts}).encode()
    return post(path=EMBEDDINGS, fields=fields, body=body)


def test_callers_of_one_embedding_call_share_its_gpu_time_by_their_tokens(tmp_path: Path) -> None:
    keys = read_keys(write_keys(tmp_path / "keys.yaml", alice={}, bob={}, carol={}))
    patient = SchedulingSettings(max_embedding_wait_s=0.5)
    with (
        serve_pool("embeds", role="embedding", keys=keys, scheduling=patient) as pool,
        ExitStack() as stack,
    ):
        router = pool.router
        clients = open_all(stack, router.port, [texts_post("first", bearer("carol"))])
        eventually(lambda: pool.requests() == [1], "the engine is busy")
        small = texts_post("x" * 400, bearer("alice"))
        large = texts_post(["y" * 800] * 2, bearer("bob"))
        clients += open_all(stack, router.port, [small, large])
        eventually(lambda: pool.requests() == [2], "both are on their way")
        assert len(json.loads(pool.engine.requests[1].body)["input"]) == 3, "in one call"
        pool.engine.let_go()
        assert [client.response().status for client in clients] == [200] * 3
        counts = router.dispatcher.counters.by_model()[("ok", "embedding")]
        alice, bob, carol = (
            key_named(router.dispatcher, name).usage.gpu_seconds
            for name in ("alice", "bob", "carol")
        )
        assert 0 < alice == pytest.approx(bob / 4)
        assert alice + bob + carol == pytest.approx(counts.gpu_seconds)


def leave(pool: Pool, request: bytes) -> None:
    """Send a request and hang up when the engine has it."""
    with wire(pool.port) as client:
        client.send(request)
        eventually(lambda: sum(pool.requests()) > 0, "the engine has it")


@pytest.mark.parametrize("behaviour", ["held", "held_stream"])
def test_an_engines_work_for_a_client_that_left_costs_gpu_time(behaviour: str) -> None:
    with serve_pool(behaviour) as pool:
        leave(pool, post("ok", stream=True))
        counts = pool.router.dispatcher.counters.by_model()[("ok", "llm")]
        eventually(lambda: counts.codes == {499: 1}, "it has ended")
        assert counts.gpu_seconds > 0


def test_an_embedding_call_that_all_its_callers_left_costs_them_gpu_time(tmp_path: Path) -> None:
    keys = read_keys(write_keys(tmp_path / "keys.yaml", alice={}))
    with serve_pool("embeds", role="embedding", keys=keys) as pool:
        leave(pool, texts_post(["text"] * 100, bearer("alice")))
        counts = pool.router.dispatcher.counters.by_model()[("ok", "embedding")]
        eventually(lambda: counts.codes == {499: 1}, "it has ended")
        alice = key_named(pool.router.dispatcher, "alice")
        assert 0 < alice.usage.gpu_seconds == pytest.approx(counts.gpu_seconds)


@pytest.mark.parametrize(
    ("behaviour", "field"),
    [("silent", "x-odd: 1"), ("gap", "x-odd: 1"), ("held", "x-sagepool-deadline-ms: 100")],
)
def test_what_timed_out_at_an_engine_costs_gpu_time(behaviour: str, field: str) -> None:
    limits = Limits(first_byte_s=0.2, gap_s=0.2, sweep_tick_s=0.02)
    with serve_pool(behaviour, limits=limits) as pool:
        ask(pool.port, post("ok", fields=(field,)))
        counts = pool.router.dispatcher.counters.by_model()[("ok", "llm")]
        eventually(lambda: counts.codes == {504: 1}, "it has ended")
        assert counts.gpu_seconds > 0.05


def test_what_no_engine_had_costs_no_gpu_time() -> None:
    with serve_router(table_of(backend(unused_port()))) as router:
        assert ask(router.port, post("ok")).status == 502
        assert router.dispatcher.counters.by_model()[("ok", "llm")].gpu_seconds == 0


# Why requests were not answered.


def test_what_the_router_refused_or_failed_is_counted_by_its_error() -> None:
    with serve_pool("bad_request") as pool:
        ask(pool.port, post("nope"))
        ask(pool.port, post("ok", fields=("x-sagepool-priority: odd",)))
        ask(pool.port, post("ok"))
        pool.engine.behaviour = "mid_stream"
        ask(pool.port, post("ok"))
        pool.engine.behaviour = "held"
        ask(pool.port, post("ok", fields=("x-sagepool-deadline-ms: 50",)))
        leave(pool, post("ok"))
        counters = pool.router.dispatcher.counters
        counts = counters.by_model()[("ok", "llm")]
        eventually(lambda: 499 in counts.codes, "it has ended")
        assert counters.unrouted.refused == {"model_not_found": 1, "invalid_priority": 1}
        assert counts.refused == {"engine_failed": 1, "deadline_exceeded": 1, "client_closed": 1}
        page = read_page(pool.router)
        name = "sagepool_router_refused_total"
        assert f'{name}{{model="ok",role="llm",reason="deadline_exceeded"}} 1' in page
        assert f'{name}{{model="",role="",reason="model_not_found"}} 1' in page


def read_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [vars(record) for record in caplog.records if record.getMessage() == "request"]


@pytest.mark.parametrize("logs", [True, False])
def test_a_line_is_written_for_each_request_on_demand_alone(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, logs: bool
) -> None:
    caplog.set_level(logging.INFO)
    keys = read_keys(write_keys(tmp_path / "keys.yaml", alice={}))
    with serve_pool("ok", keys=keys) as pool:
        pool.router.dispatcher.logs_requests = logs
        fields = (bearer("alice"), "x-request-id: r-1", "x-sagepool-priority: high")
        assert ask(pool.port, post(fields=fields, user="a secret prompt")).status == 200
        assert ask(pool.port, post("nope", fields=(bearer("alice"),))).status == 404
        lines = read_lines(caplog)
        assert len(lines) == (2 if logs else 0)
    if logs:
        first, second = lines
        told = ("request_id", "status", "model", "instance", "key", "priority", "prompt_tokens")
        assert [first[k] for k in told] == ["r-1", 200, "ok", "engine-a", "alice", 1, 3]
        assert (first["policy"], first["reason"], first["error"]) == (
            "hybrid/adaptive/fifo",
            "least_loaded",
            "",
        )
        assert (second["status"], second["instance"]) == (404, "")
        assert (second["policy"], second["error"]) == ("", "model_not_found")
        written = "".join(map(str, [*first.values(), *second.values()]))
        assert "secret" not in written
        assert "sk-alice" not in written


@pytest.mark.parametrize("texts", [1, 100])
def test_the_line_of_an_embedding_names_who_decided(
    caplog: pytest.LogCaptureFixture, texts: int
) -> None:
    caplog.set_level(logging.INFO)
    with serve_pool("embeds", role="embedding") as pool:
        pool.router.dispatcher.logs_requests = True
        pool.engine.let_go()
        assert ask(pool.port, texts_post(["text"] * texts)).status == 200
        (line,) = read_lines(caplog)
        assert (line["policy"], line["instance"]) == ("hybrid/fifo", "engine-a")
        assert line["reason"] in ("least_loaded", "idle")


def test_four_gpus_cost_four_times_as_much() -> None:
    with serve_engine("slow_ok") as engine:
        four = replace(backend(engine.port), gpus=4)
        with serve_router(table_of(four)) as router:
            assert ask(router.port, post()).status == 200
            counts = router.dispatcher.counters.by_model()[("ok", "llm")]
            seconds = counts.request_seconds.total
            assert 2 * seconds < counts.gpu_seconds <= 4 * seconds


def test_requests_at_the_same_time_divide_an_instances_time() -> None:
    with serve_pool("held") as pool, ExitStack() as stack:
        clients = open_all(stack, pool.port, [post()])
        eventually(lambda: pool.requests() == [1], "one is alone when it begins")
        clients += open_all(stack, pool.port, [post()])
        eventually(lambda: pool.requests() == [2], "the other is alone when it ends")
        pool.engine.let_go()
        assert [client.response().status for client in clients] == [200, 200]
        counts = pool.router.dispatcher.counters.by_model()[("ok", "llm")]
        eventually(lambda: counts.codes == {200: 2}, "both have ended")
        # each has one and a half in flight on average
        assert 0 < counts.gpu_seconds <= counts.request_seconds.total / 1.5


@pytest.mark.parametrize("device", ["gpu", ""])
def test_instances_on_one_gpu_divide_its_time(device: str) -> None:
    with ExitStack() as stack:
        chat, embedder = (stack.enter_context(serve_engine(b)) for b in ("held", "embeds"))
        own = backend(chat.port, instance="a", device=device)
        other = backend(
            embedder.port, instance="b", device=device, role="embedding", models=("embedder",)
        )
        router = stack.enter_context(serve_router(table_of(own, other)))
        (waiting,) = open_all(stack, router.port, [post()])
        eventually(lambda: len(chat.requests) == 1, "a chat is under way")
        embedder.let_go()
        request = post("embedder", path="/v1/embeddings", input="text")
        assert ask(router.port, request).status == 200
        counts = router.dispatcher.counters.by_model()[("embedder", "embedding")]
        took = router.call(lambda: counts.request_seconds.total)
        part = router.call(lambda: counts.gpu_seconds) / took
        assert part <= 0.5 if device else 0.5 < part <= 1
        chat.let_go()
        assert waiting.response().status == 200
