"""Embeddings of many callers in one engine call: each gets what it would have got alone."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from router_costs import RequestPath
from router_embedders import POISON, count_tokens, embed
from router_pool import Pool, serve_pool
from router_wire import Wire, ask, eventually, post, wire
from sagepool_router.batch_call import BatchCall
from sagepool_router.scheduling.settings import SchedulingSettings

PATH = "/v1/embeddings"
PATIENT = SchedulingSettings(max_embedding_wait_s=1.5)
"""Waits long enough for all callers of a test to come together."""


def post_texts(given: object, **fields: object) -> bytes:
    return post(path=PATH, body=json.dumps({"model": "ok", "input": given, **fields}).encode())


def send_all(stack: ExitStack, pool: Pool, requests: list[bytes]) -> list[Wire]:
    clients = [stack.enter_context(wire(pool.port)) for _ in requests]
    for client, request in zip(clients, requests, strict=True):
        client.send(request)
    return clients


def wait_waiting(pool: Pool, count: int) -> None:
    scheduler = pool.router.dispatcher.scheduler
    eventually(lambda: pool.router.call(lambda: scheduler.waiting) == count, "all wait")


def texts_of_calls(pool: Pool) -> list[int]:
    """How many texts each engine call carried."""
    bodies = [json.loads(r.body)["input"] for engine in pool.engines for r in engine.requests]
    return [len(body) if isinstance(body, list) else 1 for body in bodies]


def busy(stack: ExitStack, pool: Pool, calls: int = 1) -> list[Wire]:
    """Give every engine something to do."""
    clients = []
    for _ in range(calls):
        before = sum(pool.requests())
        clients += send_all(stack, pool, [post_texts("first of all", user=str(before))])
        eventually(lambda: sum(pool.requests()) == before + 1, "the engine is busy")  # noqa: B023
    return clients


def test_a_lone_caller_on_an_idle_engine_is_passed_on_untouched_and_at_once() -> None:
    with serve_pool("embeds", role="embedding", scheduling=PATIENT) as pool:
        pool.engine.let_go()
        response = ask(pool.port, post_texts(["one", "two"], odd={"kept": [1, 2]}))
        assert response.status == 200
        assert json.loads(pool.engine.requests[0].body)["odd"] == {"kept": [1, 2]}
        assert json.loads(response.body)["id"] == "embd-engine"


def test_callers_behind_a_busy_engine_travel_together_and_get_their_own() -> None:
    with serve_pool("embeds", role="embedding", scheduling=PATIENT) as pool, ExitStack() as stack:
        first = busy(stack, pool)
        texts = [f"text number {i} " * (i + 1) for i in range(32)]
        clients = send_all(stack, pool, [post_texts(text) for text in texts])
        eventually(lambda: texts_of_calls(pool) == [1, 32], "one call carries all")
        pool.engine.let_go()
        answers = [json.loads(client.response().body) for client in clients]
        assert [a["data"] for a in answers] == [
            [{"index": 0, "object": "embedding", "embedding": embed(text)}] for text in texts
        ]
        spent = [a["usage"]["prompt_tokens"] for a in answers]
        assert sum(spent) == sum(map(count_tokens, texts))
        assert len({a["id"] for a in answers}) == 32
        assert first[0].response().status == 200
        eventually(lambda: pool.router.in_flight() == {"engine-a": 0}, "all is given back")


def test_a_request_with_several_texts_keeps_their_order_among_others() -> None:
    with serve_pool("embeds", role="embedding", scheduling=PATIENT) as pool, ExitStack() as stack:
        busy(stack, pool, calls=2)
        requests = [["a", "bb", "ccc"], "dddd", [[1, 2, 3], [4]], ["eeeee", "a"]]
        clients = send_all(stack, pool, [post_texts(given) for given in requests])
        wait_waiting(pool, 4)
        pool.engine.let_go()
        for client, given in zip(clients, requests, strict=True):
            data = json.loads(client.response().body)["data"]
            items = given if isinstance(given, list) else [given]
            assert [d["embedding"] for d in data] == [embed(text) for text in items]
            assert [d["index"] for d in data] == list(range(len(items)))
        # token ids travel apart from texts
        assert sorted(texts_of_calls(pool)[2:]) == [2, 6]


def test_only_what_asks_for_the_same_is_merged() -> None:
    kinds: list[dict[str, object]] = [{}, {"dimensions": 5}, {"encoding_format": "base64"}]
    with serve_pool("embeds", role="embedding", scheduling=PATIENT) as pool, ExitStack() as stack:
        busy(stack, pool, calls=2)
        requests = [post_texts(f"t{i}", **kinds[i % 3]) for i in range(9)]
        clients = send_all(stack, pool, requests)
        wait_waiting(pool, 9)
        pool.engine.let_go()
        answers = [json.loads(c.response().body)["data"][0]["embedding"] for c in clients]
        assert texts_of_calls(pool)[2:] == [3, 3, 3]
        assert answers[0] == embed("t0")
        assert answers[1] == embed("t1", 5)
        assert isinstance(answers[2], str)


def test_a_poisoned_text_fails_its_own_caller_alone() -> None:
    with serve_pool("embeds", role="embedding", scheduling=PATIENT) as pool, ExitStack() as stack:
        busy(stack, pool, calls=2)
        texts = ["a", "b", f"the {POISON}", "c", "d", "e", "f"]
        clients = send_all(stack, pool, [post_texts(text) for text in texts])
        wait_waiting(pool, 7)
        pool.engine.let_go()
        responses = [client.response() for client in clients]
        assert [r.status for r in responses] == [200, 200, 400, 200, 200, 200, 200]
        assert responses[2].error["message"] == "too long"
        for text, response in zip(texts, responses, strict=True):
            if response.status == 200:
                assert json.loads(response.body)["data"][0]["embedding"] == embed(text)
        eventually(lambda: pool.router.in_flight() == {"engine-a": 0}, "all is given back")


def test_a_caller_that_leaves_does_not_disturb_the_others() -> None:
    with serve_pool("embeds", role="embedding", scheduling=PATIENT) as pool, ExitStack() as stack:
        busy(stack, pool)
        clients = send_all(stack, pool, [post_texts(f"t{i}") for i in range(32)])
        eventually(lambda: texts_of_calls(pool) == [1, 32], "one call carries all")
        clients[5].close()
        eventually(lambda: len(pool.router.phases()) == 32, "its request is gone")
        pool.engine.let_go()
        for i, client in enumerate(clients):
            if i != 5:
                assert json.loads(client.response().body)["data"][0]["embedding"] == embed(f"t{i}")


def test_a_call_that_nobody_waits_for_any_more_is_broken_off() -> None:
    with serve_pool("embeds", role="embedding", scheduling=PATIENT) as pool, ExitStack() as stack:
        busy(stack, pool)
        clients = send_all(stack, pool, [post_texts(f"t{i}") for i in range(32)])
        eventually(lambda: texts_of_calls(pool) == [1, 32], "one call carries all")
        for client in clients:
            client.close()
        eventually(lambda: pool.router.in_flight() == {"engine-a": 1}, "its place is free")


def test_a_caller_that_leaves_while_it_waits_is_not_sent() -> None:
    with serve_pool("embeds", role="embedding", scheduling=PATIENT) as pool, ExitStack() as stack:
        busy(stack, pool, calls=2)
        clients = send_all(stack, pool, [post_texts(f"t{i}") for i in range(4)])
        wait_waiting(pool, 4)
        clients[0].close()
        wait_waiting(pool, 3)
        pool.engine.let_go()
        assert [client.response().status for client in clients[1:]] == [200] * 3
        assert texts_of_calls(pool)[2:] == [3]


def test_a_large_request_is_split_over_instances_and_put_together_again() -> None:
    texts = [f"text {i}" for i in range(100)]
    with serve_pool("embeds", "embeds", role="embedding", scheduling=PATIENT) as pool:
        for engine in pool.engines:
            engine.let_go()
        response = ask(pool.port, post_texts(texts))
        data = json.loads(response.body)["data"]
        assert [d["embedding"] for d in data] == [embed(text) for text in texts]
        assert [d["index"] for d in data] == list(range(100))
        usage = json.loads(response.body)["usage"]
        assert usage["total_tokens"] == sum(map(count_tokens, texts))
        assert sorted(texts_of_calls(pool)) == [4, 32, 32, 32]
        assert min(pool.requests()) >= 1


def test_a_call_whose_engine_dies_goes_to_another_one() -> None:
    with (
        serve_pool("embeds", "embeds", role="embedding", scheduling=PATIENT) as pool,
        ExitStack() as stack,
    ):
        busy(stack, pool, calls=2)
        clients = send_all(stack, pool, [post_texts(f"t{i}") for i in range(32)])
        eventually(lambda: sorted(texts_of_calls(pool)) == [1, 1, 32], "one call carries all")
        dying = max(pool.engines, key=lambda e: max(len(r.body) for r in e.requests))
        for engine in pool.engines:
            if engine is not dying:
                engine.let_go()
        dying.drop_connections()
        answers = [json.loads(client.response().body) for client in clients]
        assert [a["data"][0]["embedding"] for a in answers] == [embed(f"t{i}") for i in range(32)]


@pytest.mark.parametrize("behaviour", ["bad_json", "error_in_ok"])
def test_an_answer_that_is_none_is_a_502_for_all_its_callers(behaviour: str) -> None:
    with serve_pool("embeds", role="embedding", scheduling=PATIENT) as pool, ExitStack() as stack:
        busy(stack, pool, calls=2)
        texts = [f"{behaviour} {i}" for i in range(3)]
        clients = send_all(stack, pool, [post_texts(text) for text in texts])
        wait_waiting(pool, 3)
        pool.engine.let_go()
        responses = [client.response() for client in clients]
        assert [(r.status, r.code) for r in responses] == [(502, "malformed_answer")] * 3


def test_a_call_that_nobody_wants_while_it_connects_is_never_sent_and_gives_back_once() -> None:
    with serve_pool("embeds", "embeds", role="embedding", scheduling=PATIENT) as pool:
        for _ in range(20):
            with wire(pool.port) as client:
                client.send(post_texts([f"text {i}" for i in range(33)]))
            eventually(lambda: not pool.router.phases(), "its request is gone")
            eventually(lambda: set(pool.router.in_flight().values()) == {0}, "all is given back")
        for engine in pool.engines:
            engine.let_go()
        assert ask(pool.port, post_texts("one")).status == 200


def test_calls_of_a_request_whose_deadline_has_passed_are_broken_off() -> None:
    with serve_pool("embeds", "embeds", role="embedding", scheduling=PATIENT) as pool:
        body = json.dumps({"model": "ok", "input": [f"text {i}" for i in range(60)]}).encode()
        late = post(path=PATH, body=body, fields=("x-sagepool-deadline-ms: 200",))
        assert ask(pool.port, late).status == 504
        eventually(lambda: set(pool.router.in_flight().values()) == {0}, "all is given back")


class NotLookedThrough(set[BatchCall]):
    """Calls under way that nobody goes through."""

    def __iter__(self) -> Iterator[BatchCall]:
        raise AssertionError("what one request costs must not depend on all others' calls")


async def test_a_request_that_fails_ends_its_own_calls_without_a_look_at_all_others() -> None:
    path = RequestPath()
    batches = path.dispatcher.batches = NotLookedThrough()
    engine = path.ask(PATH.encode(), model="embedder", input=["text"] * 48)
    (exchange,) = path.dispatcher.exchanges
    assert exchange.batches is not None
    assert len(exchange.batches) == len(batches) == 2
    engine.data_received(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}")
    assert path.client.written.startswith(b"HTTP/1.1 400 ")
    assert not path.dispatcher.exchanges
    assert len(batches) == len(exchange.batches) == 0
    assert {load.in_flight for load in path.dispatcher.snapshot()} == {0}
