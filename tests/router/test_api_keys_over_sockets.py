"""API keys in front of a running router: who gets in, how often, and what is told of it."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from router_app_engine import paced_engine
from router_app_objects import write_pool
from router_embedders import count_tokens
from router_engines import serve_engine
from router_keys import StillClock, bearer, key_named, read_keys, secret_of, write_keys
from router_pool import Pool, serve_pool
from router_process import file_router
from router_server import backend, serve_router, table_of
from router_wire import CHAT, Response, ask, eventually, post, raw, wire
from sagepool_router.auth.keys import ApiKey
from sagepool_router.scheduling.settings import SchedulingSettings

EMBEDDINGS = "/v1/embeddings"


def test_nobody_gets_in_where_the_pool_asks_for_keys_and_the_router_has_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve_engine() as engine:
        table = replace(table_of(backend(engine.port)), asks_for_keys=True)
        with serve_router(table) as router:
            refused = ask(router.port, post(fields=("authorization: Bearer sk-any",)))
            assert (refused.status, refused.code) == (503, "no_api_keys")
            assert "start it with --api-keys" in refused.body.decode()
            assert not engine.requests
    assert "--api-keys is not given" in caplog.text


IN_ORDER = SchedulingSettings(policy="priority")


@contextmanager
def serve_keyed(
    folder: Path,
    *behaviours: str,
    clock: StillClock | None = None,
    limit: int = 256,
    role: str = "llm",
    scheduling: SchedulingSettings | None = None,
    **settings: dict[str, object],
) -> Iterator[Pool]:
    """A pool that lets in only the keys that are named."""
    path = write_keys(folder / "keys.yaml", **settings)
    more = {} if clock is None else {"clock": clock}
    keys = read_keys(path, **more)
    with serve_pool(
        *behaviours, limit=limit, role=role, scheduling=scheduling, keys=keys, **more
    ) as pool:
        yield pool


def post_as(name: str, model: str = "ok", *fields: str, **more: object) -> bytes:
    return post(model, fields=(bearer(name), *fields), **more)


def key_of(pool: Pool, name: str) -> ApiKey:
    return key_named(pool.router.dispatcher, name)


def is_at_rest(pool: Pool, name: str) -> None:
    """Nothing of the key is under way any more."""
    eventually(lambda: key_of(pool, name).usage.in_flight == 0, "the key has nothing in flight")


def wait_ms(response: Response) -> int:
    return int(response.headers["retry-after-ms"])


# Who gets in.


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((f"x-api-key: {secret_of('alice')}",), 200),
        (("x-api-key: sk-nobody",), 401),
        (("x-api-key: sk-nobody", bearer("alice")), 200),
        ((bearer("alice"), "x-api-key: sk-nobody"), 200),
    ],
)
def test_a_key_may_come_as_anthropics_clients_send_it(
    tmp_path: Path, fields: tuple[str, ...], status: int
) -> None:
    with serve_keyed(tmp_path, "ok", alice={}) as pool:
        assert ask(pool.port, post(fields=fields)).status == status


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ((), "missing_api_key"),
        (("authorization: Basic YWxpY2U6eA==",), "missing_api_key"),
        (("authorization: Bearer",), "missing_api_key"),
        (("authorization: Bearer sk-nobody-5f0c2a8e94d1b736",), "invalid_api_key"),
        ((f"authorization: Bearer {secret_of('alice')}x",), "invalid_api_key"),
        ((f"authorization: Bearer {'x' * 5000}",), "invalid_api_key"),
    ],
)
def test_without_a_key_of_the_pool_nobody_gets_in(
    tmp_path: Path, fields: tuple[str, ...], code: str
) -> None:
    with serve_keyed(tmp_path, "ok", alice={}) as pool:
        response = ask(pool.port, post(fields=fields))
        assert (response.status, response.code) == (401, code)
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert pool.requests() == [0]
        assert ask(pool.port, post_as("alice")).status == 200


def test_a_stranger_is_refused_before_its_body_has_come(tmp_path: Path) -> None:
    with serve_keyed(tmp_path, "ok", alice={}) as pool, wire(pool.port) as client:
        client.send(raw(CHAT, b"", "content-length: 1000000"))
        assert client.response().code == "missing_api_key"


def test_the_scheme_may_be_written_in_any_case(tmp_path: Path) -> None:
    with serve_keyed(tmp_path, "ok", alice={}) as pool:
        field = f"Authorization: bearer   {secret_of('alice')}"
        assert ask(pool.port, post(fields=(field,))).status == 200


def test_a_key_withdrawn_while_its_request_runs_lets_that_one_finish(tmp_path: Path) -> None:
    with serve_keyed(tmp_path, "held", alice={}, bob={}) as pool, wire(pool.port) as client:
        client.send(post_as("alice"))
        eventually(lambda: pool.requests() == [1], "it is at the engine")
        alice = key_of(pool, "alice")
        path = write_keys(tmp_path / "keys.yaml", bob={}, carol={})
        keyring = read_keys(path).keyring
        keys = pool.router.dispatcher.keys
        assert keys is not None
        pool.router.call(lambda: setattr(keys, "keyring", keyring))
        pool.engine.let_go()
        assert client.response().status == 200
        eventually(lambda: alice.usage.in_flight == 0, "its books are closed")
        assert ask(pool.port, post_as("alice")).code == "invalid_api_key"
        assert ask(pool.port, post_as("carol")).status == 200


def test_engines_never_see_a_clients_key(tmp_path: Path) -> None:
    with serve_keyed(tmp_path, "who", alice={}) as pool:
        said = json.loads(ask(pool.port, post_as("alice")).body)
        assert "authorization" not in said["headers"]
        assert secret_of("alice") not in json.dumps(said)


# Models.


def test_a_key_may_use_its_models_by_the_names_that_it_has_and_no_other(tmp_path: Path) -> None:
    path = write_keys(tmp_path / "keys", alice={"models": ["nickname", "who"]})
    with serve_engine() as engine:
        table = table_of(backend(engine.port, models=("ok", "who")), aliases={"nickname": "ok"})
        with serve_router(table, keys=read_keys(path)) as router:
            assert ask(router.port, post_as("alice", "nickname")).status == 200
            assert ask(router.port, post_as("alice", "who")).status == 200
            refused = ask(router.port, post_as("alice", "ok"))
            assert (refused.status, refused.code) == (403, "model_not_allowed")
            assert refused.error["param"] == "model"
            assert str(refused.error["message"]).endswith("its models: nickname, who")
            assert len(engine.requests) == 2
            usage = key_named(router.dispatcher, "alice").usage
            assert (usage.requests, usage.rejected, usage.in_flight) == (2, {"model": 1}, 0)


def test_an_unknown_model_is_not_answered_with_names_that_the_key_may_not_use(
    tmp_path: Path,
) -> None:
    path = write_keys(tmp_path / "keys", alice={"models": ["ok"]}, root={})
    with serve_engine() as engine:
        table = table_of(backend(engine.port, models=("ok", "secret-project")))
        with serve_router(table, keys=read_keys(path)) as router:
            told = ask(router.port, post_as("alice", "gpt-9"))
            assert (told.status, told.code) == (404, "model_not_found")
            assert str(told.error["message"]).endswith("models: ok")
            told = ask(router.port, post_as("root", "gpt-9"))
            assert str(told.error["message"]).endswith("models: ok, secret-project")


# Limits.


def test_who_waits_as_long_as_told_after_too_many_requests_gets_in(tmp_path: Path) -> None:
    clock = StillClock()
    limits: dict[str, object] = {"requestsPerMinute": 2}
    with serve_keyed(tmp_path, "ok", clock=clock, alice=limits, bob={}) as pool:
        assert [ask(pool.port, post_as("alice")).status for _ in range(2)] == [200, 200]
        clock.advance(10)
        refused = ask(pool.port, post_as("alice"))
        assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
        assert refused.error["type"] == "requests"
        assert wait_ms(refused) == 20_001  # a place comes back every 30 s; rounded up
        assert refused.headers["retry-after"] == "21"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert ask(pool.port, post_as("bob")).status == 200
        clock.advance(wait_ms(refused) / 1000 - 0.002)
        early = ask(pool.port, post_as("alice"))
        assert (early.status, early.error["type"]) == (429, "requests")
        clock.advance(wait_ms(early) / 1000)
        assert ask(pool.port, post_as("alice")).status == 200
        assert key_of(pool, "alice").usage.rejected == {"requests": 2}
        assert pool.requests() == [4]


def test_who_waits_as_long_as_told_after_too_many_tokens_gets_in(tmp_path: Path) -> None:
    clock = StillClock()
    with serve_keyed(tmp_path, "usage", clock=clock, alice={"tokensPerMinute": 60}, bob={}) as pool:
        large = post_as("alice", max_tokens=60)
        assert ask(pool.port, large).status == 200
        is_at_rest(pool, "alice")
        # 16 tokens were used of 60; this one asks for more than a minute holds
        refused = ask(pool.port, large)
        assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
        assert refused.error["type"] == "tokens"
        assert refused.headers["x-ratelimit-remaining-tokens"] == "44"
        assert wait_ms(refused) <= 16_001
        clock.advance(wait_ms(refused) / 1000 - 0.002)
        assert ask(pool.port, large).status == 429
        clock.advance(0.002)
        assert ask(pool.port, large).status == 200


def test_a_key_has_no_more_requests_under_way_than_it_may(tmp_path: Path) -> None:
    limits: dict[str, object] = {"maxConcurrency": 2}
    with serve_keyed(tmp_path, "held", alice=limits, bob={}) as pool, ExitStack() as stack:
        clients = [stack.enter_context(wire(pool.port)) for _ in range(3)]
        for client in clients[:2]:
            client.send(post_as("alice"))
        eventually(lambda: pool.requests() == [2], "two are at the engine")
        refused = ask(pool.port, post_as("alice"))
        assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
        assert refused.error["type"] == "concurrency"
        assert (refused.headers["retry-after"], wait_ms(refused)) == ("1", 1000)
        clients[2].send(post_as("bob"))
        eventually(lambda: pool.requests() == [3], "another key's is")
        pool.engine.let_go()
        assert [client.response().status for client in clients] == [200] * 3
        is_at_rest(pool, "alice")
        assert ask(pool.port, post_as("alice")).status == 200


def test_a_request_that_waits_in_the_queue_counts_as_under_way(tmp_path: Path) -> None:
    limits: dict[str, object] = {"maxConcurrency": 2}
    with serve_keyed(tmp_path, "held", limit=1, alice=limits) as pool, ExitStack() as stack:
        clients = [stack.enter_context(wire(pool.port)) for _ in range(2)]
        for client in clients:
            client.send(post_as("alice"))
        eventually(lambda: sorted(pool.router.phases()) == ["scheduling", "waiting"], "one waits")
        assert ask(pool.port, post_as("alice")).error["type"] == "concurrency"
        pool.engine.let_go()
        assert [client.response().status for client in clients] == [200, 200]


def test_answers_tell_where_a_key_stands(tmp_path: Path) -> None:
    limits: dict[str, object] = {"requestsPerMinute": 60, "tokensPerMinute": 6000}
    with serve_keyed(tmp_path, "ok", clock=StillClock(), alice=limits, bob={}) as pool:
        told = ask(pool.port, post_as("alice", max_tokens=10)).headers
        assert told["x-ratelimit-limit-requests"] == "60"
        assert told["x-ratelimit-remaining-requests"] == "59"
        assert told["x-ratelimit-reset-requests"] == "1.000s"
        assert told["x-ratelimit-limit-tokens"] == "6000"
        estimated = 6000 - int(told["x-ratelimit-remaining-tokens"])
        assert estimated > 5
        assert told["x-ratelimit-reset-tokens"].endswith(("s", "ms"))
        is_at_rest(pool, "alice")
        told = ask(pool.port, post_as("alice", max_tokens=10)).headers
        assert told["x-ratelimit-remaining-requests"] == "58"
        # the first has cost 5 tokens, the second is still charged by its estimate
        assert int(told["x-ratelimit-remaining-tokens"]) == 6000 - 5 - estimated
        unlimited = ask(pool.port, post_as("bob")).headers
        assert [name for name in unlimited if name.startswith("x-ratelimit")] == []


def test_the_router_keeps_to_its_part_of_the_limits(tmp_path: Path) -> None:
    path = write_keys(tmp_path / "keys", alice={"requestsPerMinute": 60})
    with serve_engine("ok") as engine:
        table = table_of(backend(engine.port))
        with serve_router(table, keys=read_keys(path)) as router:
            assert ask(router.port, post_as("alice")).headers["x-ratelimit-limit-requests"] == "60"
            keys = router.dispatcher.keys
            assert keys is not None
            router.call(lambda: keys.keep_to(1 / 3))
            assert ask(router.port, post_as("alice")).headers["x-ratelimit-limit-requests"] == "20"


# Order.


def order_at(pool: Pool) -> list[str]:
    """Whose requests came to the engine, in that order; clients say it in `user`."""
    return [str(json.loads(request.body)["user"]) for request in pool.engine.requests]


def queue_up(stack: ExitStack, pool: Pool, *requests: bytes) -> list[Callable[[], Response]]:
    """Let requests wait one after another behind what the engine works on."""
    scheduler = pool.router.dispatcher.scheduler
    answers = []
    for request in requests:
        before = pool.router.call(lambda: scheduler.waiting)
        client = stack.enter_context(wire(pool.port))
        client.send(request)
        answers.append(client.response)
        eventually(
            lambda: pool.router.call(lambda: scheduler.waiting) == before + 1,  # noqa: B023
            "it waits",
        )
    return answers


def test_a_keys_priority_counts_where_the_request_names_none(tmp_path: Path) -> None:
    keys: dict[str, dict[str, object]] = {
        "batch": {"priority": "background"},
        "plain": {},
        "urgent": {"priority": "critical"},
    }
    with (
        serve_keyed(tmp_path, "held", limit=1, scheduling=IN_ORDER, **keys) as pool,
        ExitStack() as stack,
    ):
        first = stack.enter_context(wire(pool.port))
        first.send(post_as("plain", user="first"))
        eventually(lambda: pool.requests() == [1], "the engine is busy")
        answers = queue_up(
            stack,
            pool,
            post_as("batch", user="batch"),
            post_as("plain", user="plain"),
            post_as("urgent", user="urgent"),
            post_as("batch", "ok", "x-sagepool-priority: critical", user="batch, said critical"),
            post_as("urgent", "ok", "x-sagepool-priority: low", user="urgent, said low"),
        )
        pool.engine.let_go()
        assert {answer().status for answer in answers} == {200}
        assert order_at(pool) == [
            "first",
            "urgent",
            "batch, said critical",
            "plain",
            "urgent, said low",
            "batch",
        ]


def test_a_key_with_200_requests_in_the_queue_does_not_keep_another_one_waiting(
    tmp_path: Path,
) -> None:
    with (
        serve_keyed(tmp_path, "held", limit=1, many={}, few={}) as pool,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(wire(pool.port)) for _ in range(201)]
        for client in clients:
            client.send(post_as("many", user="many"))
        scheduler = pool.router.dispatcher.scheduler
        eventually(lambda: pool.router.call(lambda: scheduler.waiting) == 200, "200 wait")
        answers = queue_up(stack, pool, *(post_as("few", user="few") for _ in range(3)))
        pool.engine.let_go()
        assert [answer().status for answer in answers] == [200] * 3
        assert {client.response().status for client in clients} == {200}
        places = [i for i, name in enumerate(order_at(pool)) if name == "few"]
        # the engine's own, and one of the other key's between any two
        assert places[0] <= 2
        assert places[2] <= 8
        assert pool.requests() == [204]


# The end of a request.


def leave(pool: Pool, request: bytes, until: Callable[[Pool], bool]) -> None:
    with wire(pool.port) as client:
        client.send(request)
        eventually(lambda: until(pool), "it has come so far")


ALICE = post_as("alice")
ENDINGS: dict[str, tuple[str, Callable[[Pool], None]]] = {
    "an answer": ("ok", lambda pool: ask(pool.port, ALICE)),
    "a stream": ("usage", lambda pool: ask(pool.port, ALICE)),
    "an error of the engine": ("status_500", lambda pool: ask(pool.port, ALICE)),
    "a broken engine": ("reset_before", lambda pool: ask(pool.port, ALICE)),
    "a stream that breaks": ("mid_stream", lambda pool: ask(pool.port, ALICE)),
    "a refused stream": ("bad_request_event_first", lambda pool: ask(pool.port, ALICE)),
    "a client that leaves": (
        "held",
        lambda pool: leave(pool, ALICE, lambda pool: pool.requests() == [1]),
    ),
    "a client that leaves a stream": (
        "held_stream",
        lambda pool: leave(pool, ALICE, lambda pool: "streaming" in pool.router.phases()),
    ),
    "a deadline": ("held", lambda pool: ask(pool.port, post_as("alice", "ok", DEADLINE))),
}
DEADLINE = "x-sagepool-deadline-ms: 30"


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_end_of_a_request_gives_its_place_back_to_the_key(
    tmp_path: Path, ending: str
) -> None:
    behaviour, run = ENDINGS[ending]
    limits: dict[str, object] = {"maxConcurrency": 1}
    with serve_keyed(tmp_path, behaviour, alice=limits) as pool:
        run(pool)
        eventually(lambda: key_of(pool, "alice").usage.requests == 1, "it was let in")
        is_at_rest(pool, "alice")


@pytest.mark.parametrize(
    ("ending", "is_free"),
    [
        ("an error of the engine", True),
        ("a broken engine", True),
        ("a refused stream", True),
        ("a stream that breaks", False),
        ("a client that leaves", False),
        ("a client that leaves a stream", False),
    ],
)
def test_tokens_stay_charged_only_for_what_an_engine_has_worked_on(
    tmp_path: Path, ending: str, is_free: bool
) -> None:
    behaviour, run = ENDINGS[ending]
    clock = StillClock()
    limits: dict[str, object] = {"tokensPerMinute": 6000}
    with serve_keyed(tmp_path, behaviour, clock=clock, alice=limits) as pool:
        run(pool)
        eventually(lambda: key_of(pool, "alice").usage.requests == 1, "it was let in")
        is_at_rest(pool, "alice")
        alice = key_of(pool, "alice")
        told = pool.router.call(lambda: alice.answer_fields(clock.now))
        assert (b"x-ratelimit-remaining-tokens: 6000\r\n" in told) == is_free


def test_a_request_that_leaves_the_queue_costs_no_tokens(tmp_path: Path) -> None:
    clock = StillClock()
    limits: dict[str, object] = {"tokensPerMinute": 6000}
    with serve_keyed(tmp_path, "held", clock=clock, limit=1, alice=limits, bob={}) as pool:
        with wire(pool.port) as first, wire(pool.port) as second:
            first.send(post_as("bob"))
            eventually(lambda: pool.requests() == [1], "the engine is busy")
            second.send(post_as("alice"))
            eventually(lambda: "scheduling" in pool.router.phases(), "it waits")
            second.close()
            is_at_rest(pool, "alice")
            pool.engine.let_go()
            assert first.response().status == 200
        pool.engine.hold()
        alice = key_of(pool, "alice")
        assert pool.router.call(lambda: alice.answer_fields(clock.now)).startswith(
            b"x-ratelimit-limit-tokens: 6000\r\nx-ratelimit-remaining-tokens: 6000\r\n"
        )
        assert pool.requests() == [1]


def test_a_request_without_an_instance_costs_no_tokens(tmp_path: Path) -> None:
    path = write_keys(tmp_path / "keys", alice={"tokensPerMinute": 6000})
    clock = StillClock()
    table = table_of(absent={"ok": "loading"})
    with serve_router(table, keys=read_keys(path, clock), clock=clock) as router:
        assert ask(router.port, post_as("alice")).code == "no_instance"
        alice = key_named(router.dispatcher, "alice")
        assert alice.usage.in_flight == 0
        told = router.call(lambda: alice.answer_fields(clock.now))
        assert b"x-ratelimit-remaining-tokens: 6000\r\n" in told


def test_tokens_are_corrected_by_what_the_engine_reports(tmp_path: Path) -> None:
    clock = StillClock()
    limits: dict[str, object] = {"tokensPerMinute": 6000}
    with serve_keyed(tmp_path, "usage", clock=clock, alice=limits) as pool:
        charged = ask(pool.port, post_as("alice", max_tokens=1000)).headers
        assert int(charged["x-ratelimit-remaining-tokens"]) < 6000 - 16
        is_at_rest(pool, "alice")
        alice = key_of(pool, "alice")
        told = pool.router.call(lambda: alice.answer_fields(clock.now))
        assert b"x-ratelimit-remaining-tokens: 5984\r\n" in told  # 7 and 9 of usage
        assert (alice.usage.prompt_tokens, alice.usage.completion_tokens) == (7, 9)


def test_merged_embeddings_are_charged_to_whose_texts_they_are(tmp_path: Path) -> None:
    patient = SchedulingSettings(max_embedding_wait_s=0.5)

    def post_texts(name: str, *given: str) -> bytes:
        body = json.dumps({"model": "ok", "input": given}).encode()
        return post(path=EMBEDDINGS, fields=(bearer(name),), body=body)

    with (
        serve_keyed(
            tmp_path, "embeds", role="embedding", scheduling=patient, alice={}, bob={}, carol={}
        ) as pool,
        ExitStack() as stack,
    ):
        for count in (1, 2):  # all that it takes at a time
            stack.enter_context(wire(pool.port)).send(post_texts("carol", "busy"))
            eventually(lambda: pool.requests() == [count], "the engine is busy")  # noqa: B023
        answers = queue_up(
            stack,
            pool,
            post_texts("alice", "one two three"),
            post_texts("bob", "one", "one"),
            post_texts("carol", "four"),
        )
        pool.engine.let_go()
        told = [json.loads(answer().body)["usage"]["prompt_tokens"] for answer in answers]
        assert pool.requests() == [3]
        merged = ["one two three", "one", "one", "four"]
        assert sum(told) == sum(map(count_tokens, merged))
        for name, tokens in zip(("alice", "bob"), told, strict=False):
            is_at_rest(pool, name)
            assert key_of(pool, name).usage.prompt_tokens == tokens


# What is seen of keys.


def test_nothing_that_is_logged_of_refusals_and_failures_holds_a_secret(tmp_path: Path) -> None:
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    root = logging.getLogger()
    handler, level = Keep(logging.DEBUG), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with serve_keyed(tmp_path, "reset_before", alice={"requestsPerMinute": 1}) as pool:
            statuses = [ask(pool.port, post_as(n)).status for n in ("alice", "alice", "mallory")]
        assert statuses == [502, 429, 401]
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    written = "\n".join(str(record.__dict__) for record in records)
    assert "API keys read" in written
    assert [name for name in ("alice", "mallory") if secret_of(name) in written] == []


async def test_the_program_lists_only_the_models_of_a_key_and_tells_no_secret(
    tmp_path: Path,
) -> None:
    keys = tmp_path / "keys.yaml"
    write_keys(keys, alice={"models": ["gpt-4o-mini"]}, root={}, short={"keys": ["sk-short"]})
    keys.write_text(keys.read_text().replace(f"  key: {secret_of('short')}\n", ""))
    async with paced_engine() as engine:
        engine.released.set()
        config = write_pool(tmp_path / "pool.yaml", a=engine.url)
        async with file_router(config, f"--api-keys={keys}", "--log-level=debug") as router:
            await router.until_instances(a=True)

            def headers_of(name: str | None) -> dict[str, str]:
                return {} if name is None else {"authorization": f"Bearer {secret_of(name)}"}

            async def get(path: str, name: str | None) -> httpx.Response:
                return await router.client.get(router.url + path, headers=headers_of(name))

            async def chat(name: str, model: str) -> int:
                body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
                url = router.url + CHAT
                return (
                    await router.client.post(url, json=body, headers=headers_of(name))
                ).status_code

            listed = {
                name: {model["id"] for model in (await get("/v1/models", name)).json()["data"]}
                for name in ("alice", "root")
            }
            assert listed == {
                "alice": {"gpt-4o-mini"},
                "root": {"qwen2.5-7b", "gpt-4o-mini", "bge-m3"},
            }
            for name, code in ((None, "missing_api_key"), ("mallory", "invalid_api_key")):
                for path in ("/v1/models", "/v1/models/bge-m3"):
                    refused = await get(path, name)
                    assert (refused.status_code, refused.json()["error"]["code"]) == (401, code)
            hidden = await get("/v1/models/bge-m3", "alice")
            assert hidden.status_code == 404
            assert hidden.json()["error"]["message"].endswith("models: gpt-4o-mini")
            assert (await get("/v1/models/gpt-4o-mini", "alice")).status_code == 200

            assert await chat("alice", "gpt-4o-mini") == 200
            assert await chat("alice", "qwen2.5-7b") == 403
            assert await chat("mallory", "gpt-4o-mini") == 401
            page = (await router.admin_get("/metrics")).text
            logged = json.dumps(router.logs)
    admitted = {
        sample.labels["key"]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "sagepool_router_key_requests_total"
    }
    assert admitted == {"alice": 1, "root": 0}
    assert "API key refused" in logged
    assert "sk-" not in logged + page
