"""The provider behind a running router: when it answers, under which name, and for how much."""

import re
from contextlib import ExitStack
from pathlib import Path
from random import Random

import httpx
import pytest
import yaml

from crd_objects import pool_object
from router_app_objects import StillSource
from router_cloud import CAUSES, Site, said_of, sent, serve_site
from router_engines import ANSWER, serve_engine, unused_port
from router_keys import bearer, key_named, read_keys, secret_of, write_keys
from router_scheduling import queue_up
from router_server import backend, provider, serve_router, table_of
from router_wire import Wire, ask, eventually, post, wire
from sagepool_crds.cloud import When
from sagepool_crds.pool import InferencePool
from sagepool_router.app import create_app
from sagepool_router.cloud import ROUTES, Cause
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.health import Health
from sagepool_router.limits import Limits
from sagepool_router.metrics import Metrics
from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings
from sagepool_router.sources.publisher import TablePublisher
from sagepool_router.table import RoutingTable, build_table

PAGE = (Path(__file__).parents[2] / "docs" / "cloud.md").read_text()
EVER: tuple[When, ...] = ("absent", "starting", "overloaded")


# When the provider answers.


@pytest.mark.parametrize("cause", CAUSES)
def test_the_provider_answers_for_each_cause_and_is_named(cause: Cause) -> None:
    with serve_site("ok", cause) as site:
        before = len(site.engine.requests)
        response = ask(site.port, post())
        assert (response.status, response.body) == (200, ANSWER)
        assert said_of(response) == ("cloud", f"cloud_{cause}")
        assert sent(site.provider)["model"] == "theirs"
        assert len(site.engine.requests) == before
        assert site.fallbacks == {cause: 1}


@pytest.mark.parametrize(
    ("cause", "status", "code"),
    [
        ("absent", 503, "no_instance"),
        ("starting", 503, "no_instance"),
        ("overloaded", 429, "overloaded"),
    ],
)
def test_it_does_not_answer_for_a_cause_that_the_pool_does_not_name(
    cause: When, status: int, code: str
) -> None:
    others = tuple(name for name in EVER if name != cause)
    with serve_site("ok", cause, when=others) as site:
        response = ask(site.port, post())
        assert (response.status, response.code) == (status, code)
        assert "retry-after-ms" in response.headers
        assert (site.provider.requests, site.fallbacks) == ([], {})


def test_in_source_cloud_it_answers_whatever_the_causes_are() -> None:
    with serve_site("ok", "source", when=()) as site:
        assert said_of(ask(site.port, post())) == ("cloud", "cloud_source")


def test_in_source_cloud_engines_that_are_still_there_get_nothing() -> None:
    with serve_engine("ok") as theirs, serve_engine("ok") as engine:
        table = table_of(backend(engine.port), source="cloud", cloud=provider(theirs.port))
        with serve_router(table) as router:
            assert said_of(ask(router.port, post())) == ("cloud", "cloud_source")
            assert (len(theirs.requests), len(engine.requests)) == (1, 0)


def test_while_the_pool_has_room_its_own_engine_answers() -> None:
    with serve_engine("ok") as theirs, serve_engine("ok") as engine:
        table = table_of(backend(engine.port), cloud=provider(theirs.port))
        with serve_router(table) as router:
            assert ask(router.port, post()).headers["x-sagepool-instance"] == "engine-a"
            assert theirs.requests == []


def test_requests_wait_in_the_queue_before_any_goes_to_the_provider() -> None:
    one_waits = SchedulingSettings(queue=QueueLimits(max_requests=1))
    with serve_engine("ok") as theirs, serve_engine("held") as engine, ExitStack() as stack:
        own = backend(engine.port, limit=1)
        table = table_of(own, cloud=provider(theirs.port), scheduling=one_waits)
        with serve_router(table) as router:
            clients = [stack.enter_context(wire(router.port)) for _ in range(2)]
            for client, count in zip(clients, (1, 2), strict=True):
                client.send(post())
                eventually(lambda: len(router.phases()) == count, "it has come")  # noqa: B023
            assert said_of(ask(router.port, post())) == ("cloud", "cloud_overloaded")
            engine.let_go()
            answered = [client.response().headers["x-sagepool-instance"] for client in clients]
            assert answered == ["engine-a", "engine-a"]


def test_once_the_engine_is_there_the_provider_gets_nothing_more() -> None:
    with serve_site("ok", "starting") as site:
        assert said_of(ask(site.port, post()))[0] == "cloud"
        site.engine.let_go()
        cloud = provider(site.provider.port)
        site.router.swap(table_of(backend(site.engine.port), version=2, cloud=cloud))
        assert ask(site.port, post()).headers["x-sagepool-instance"] == "engine-a"
        assert len(site.provider.requests) == 1


def test_a_model_that_is_not_mapped_never_goes_there() -> None:
    with serve_site("ok", "absent", models={"another": "theirs"}) as site:
        assert ask(site.port, post()).code == "no_instance"
    with serve_site("ok", "source", models={"another": "theirs"}) as site:
        response = ask(site.port, post())
        assert (response.status, response.code) == (503, "no_provider")
        assert "spec.cloud.models" in str(response.error["message"])
        assert site.provider.requests == []


def test_a_suspended_pool_stays_silent_unless_its_source_is_the_provider() -> None:
    with serve_engine("ok") as theirs:
        cloud = provider(theirs.port)
        table = table_of(absent={"ok": "suspended"}, suspended=True, cloud=cloud)
        with serve_router(table) as router:
            assert ask(router.port, post()).code == "suspended"
            assert theirs.requests == []


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v1/score", "/tokenize", "/pooling"])
@pytest.mark.parametrize("cause", ["source", "absent"])
def test_routes_that_providers_do_not_know_are_refused_here(path: str, cause: Cause) -> None:
    with serve_site("ok", cause, role="embedding", same_space=("ok",)) as site:
        response = ask(site.port, post(path=path, query="x", prompt="x", documents=["y"]))
        assert response.status == 503
        assert response.code == ("no_provider" if cause == "source" else "no_instance")
        assert site.provider.requests == []


# What it is sent.


def test_a_request_by_alias_gets_there_under_the_providers_name() -> None:
    with serve_engine("ok") as theirs:
        table = table_of(
            absent={"ok": "none"}, aliases={"nickname": "ok"}, cloud=provider(theirs.port)
        )
        with serve_router(table) as router:
            assert ask(router.port, post("nickname", seed=7)).status == 200
            assert sent(theirs)["model"] == "theirs"
            assert sent(theirs)["seed"] == 7


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1", "/v1/chat/completions"),
        ("/compatible-mode/v1", "/compatible-mode/v1/chat/completions"),
        ("/compatible-mode/v1/", "/compatible-mode/v1/chat/completions"),
        ("", "/chat/completions"),
    ],
)
def test_the_base_address_may_have_any_path(path: str, expected: str) -> None:
    with serve_site("ok", "absent", path=path) as site:
        assert ask(site.port, post()).status == 200
        assert [request.path for request in site.provider.requests] == [expected]


def test_it_gets_the_pools_key_and_never_the_clients(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("sk-of-the-pool\n")
    keys = read_keys(write_keys(tmp_path / "keys", alice={}))
    with serve_engine("ok") as theirs:
        table = table_of(absent={"ok": "none"}, cloud=provider(theirs.port))
        with serve_router(table, keys=keys, cloud_key=key_file) as router:
            assert ask(router.port, post(fields=(bearer("alice"),))).status == 200
            (request,) = theirs.requests
            assert request.headers["authorization"] == "Bearer sk-of-the-pool"
            assert secret_of("alice") not in str(request)
            eventually(
                lambda: key_named(router.dispatcher, "alice").usage.completion_tokens == 2,
                "the key is charged for what the provider reports",
            )


def test_engines_do_not_get_the_providers_key(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("sk-of-the-pool")
    with serve_engine("ok") as theirs, serve_engine("who") as engine:
        table = table_of(backend(engine.port), cloud=provider(theirs.port))
        with serve_router(table, cloud_key=key_file) as router:
            assert b"sk-of-the-pool" not in ask(router.port, post()).body


def test_a_changed_key_is_sent_without_a_restart(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    limits = Limits(sweep_tick_s=0.02)

    def last_sent(site: Site) -> str | None:
        assert ask(site.port, post()).status == 200
        return site.provider.requests[-1].headers.get("authorization")

    with serve_site("ok", "absent", key_file=key_file, limits=limits) as site:
        assert last_sent(site) is None
        key_file.write_text("sk-first")
        eventually(lambda: last_sent(site) == "Bearer sk-first", "the first is sent")
        key_file.write_text("sk-second\n")
        eventually(lambda: last_sent(site) == "Bearer sk-second", "the second is sent")
        key_file.unlink()
        key_file.mkdir()  # unreadable from now on
        sweeps = site.router.dispatcher.now
        eventually(lambda: site.router.dispatcher.now > sweeps + 0.1, "it was looked at")
        assert last_sent(site) == "Bearer sk-second"


def test_a_key_file_that_cannot_be_read_is_told_once_and_not_at_every_look(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("sk-one\nsk-two\n")
    limits = Limits(sweep_tick_s=0.01)
    with serve_site("ok", "absent", key_file=key_file, limits=limits) as site:
        begin = site.router.dispatcher.now
        eventually(lambda: site.router.dispatcher.now > begin + 0.1, "it was looked at often")
        assert ask(site.port, post()).status == 200
        assert "authorization" not in site.provider.requests[0].headers
    (record,) = [r for r in caplog.records if "provider's key" in r.message]
    assert "sk-" not in str(record.__dict__)


# What it answers.


def test_a_stream_of_the_provider_is_passed_on_event_by_event() -> None:
    with serve_engine("held_stream") as theirs:
        table = table_of(absent={"ok": "none"}, cloud=provider(theirs.port))
        with serve_router(table) as router, wire(router.port) as client:
            client.send(post(stream=True))
            head = client.read_until(b'{"n": 1}')
            assert b"x-sagepool-instance: cloud\r\n" in head
            theirs.let_go()
            assert b'{"n": 2}' in client.read_until(b"0\r\n\r\n")


def test_a_client_that_leaves_breaks_the_providers_work_off() -> None:
    with serve_engine("silent") as theirs:
        table = table_of(absent={"ok": "none"}, cloud=provider(theirs.port))
        with serve_router(table) as router:
            with wire(router.port) as client:
                client.send(post())
                eventually(lambda: len(theirs.requests) == 1, "it is there")
            eventually(lambda: theirs.closed_by_peer == 1, "it is broken off")
            cloud = router.dispatcher.fleet.cloud
            assert cloud is not None
            eventually(lambda: cloud.backend.in_flight == 0, "its place is free")


@pytest.mark.parametrize("behaviour", ["bad_request", "status_429", "status_500"])
def test_an_error_of_the_provider_is_passed_on_and_not_repeated(behaviour: str) -> None:
    with serve_site(behaviour, "absent") as site:
        response = ask(site.port, post())
        expected = {"bad_request": 400, "status_429": 429, "status_500": 500}[behaviour]
        assert response.status == expected
        assert said_of(response) == ("cloud", "cloud_absent")
        assert len(site.provider.requests) == 1
        assert site.costs == {}


def test_a_request_that_the_provider_dropped_is_not_sent_to_an_engine_under_its_name() -> None:
    """The table has changed meanwhile, and with it the provider."""
    with serve_engine("held") as theirs, serve_engine("ok") as engine:
        table = table_of(absent={"ok": "none"}, cloud=provider(theirs.port))
        with serve_router(table) as router, wire(router.port) as client:
            client.send(post())
            eventually(lambda: len(theirs.requests) == 1, "it is there")
            router.swap(table_of(backend(engine.port), version=2))
            theirs.drop_connections()
            response = client.response()
            assert (response.status, response.code) == (502, "engine_failed")
            assert engine.requests == []


def test_what_a_former_provider_answers_teaches_the_pool_nothing() -> None:
    with serve_engine("held") as theirs, serve_engine("ok") as engine:
        cloud = provider(theirs.port, price_input=10, price_output=10)
        table = table_of(absent={"ok": "none"}, cloud=cloud)
        with serve_router(table) as router, wire(router.port) as client:
            client.send(post())
            eventually(lambda: len(theirs.requests) == 1, "it is there")
            router.swap(table_of(backend(engine.port), version=2))
            theirs.let_go()
            assert client.response().status == 200
            eventually(lambda: not router.dispatcher.exchanges, "its books are closed")
            assert router.dispatcher.fleet.routes["ok"].lane.outlook.service_s == 0


# Trouble.


def test_after_it_could_not_be_reached_requests_are_refused_here_and_at_once() -> None:
    limits = Limits(eject_s=60, eject_max_s=60)
    table = table_of(absent={"ok": "none exists"}, cloud=provider(unused_port()))
    with serve_router(table, limits) as router:
        first = ask(router.port, post())
        assert (first.status, first.code) == (502, "engine_unreachable")
        assert "instance cloud" in str(first.error["message"])
        second = ask(router.port, post())
        assert (second.status, second.code) == (503, "no_instance")
        assert router.dispatcher.counters.fallbacks == {"absent": 1}


def test_in_source_cloud_the_refusal_says_that_the_provider_cannot_be_reached() -> None:
    limits = Limits(eject_s=60, eject_max_s=60)
    table = table_of(absent={"ok": "none"}, source="cloud", cloud=provider(unused_port()))
    with serve_router(table, limits) as router:
        assert ask(router.port, post()).code == "engine_unreachable"
        response = ask(router.port, post())
        assert (response.status, response.code) == (503, "no_provider")
        assert "cannot be reached at present" in str(response.error["message"])
        assert response.headers["x-sagepool-reason"] == response.error["message"]
        assert "retry-after-ms" in response.headers


def test_a_provider_that_is_back_is_found_by_one_request_and_then_used_again() -> None:
    limits = Limits(sweep_tick_s=0.02, eject_s=0.05, eject_max_s=0.05)
    port = unused_port()
    table = table_of(absent={"ok": "none"}, cloud=provider(port))
    with serve_router(table, limits) as router:
        assert ask(router.port, post()).status == 502
        cloud = router.dispatcher.fleet.cloud
        assert cloud is not None
        with serve_engine("held", port=port) as theirs, ExitStack() as stack:
            eventually(lambda: cloud.backend.state == "probation", "its time is over")
            trial = stack.enter_context(wire(router.port))
            trial.send(post())
            eventually(lambda: len(theirs.requests) == 1, "one is let through")
            assert ask(router.port, post()).status == 503
            theirs.let_go()
            assert trial.response().status == 200
            assert cloud.backend.state == "available"
            clients: list[Wire] = [stack.enter_context(wire(router.port)) for _ in range(5)]
            for client in clients:
                client.send(post())
            assert {client.response().status for client in clients} == {200}


# What it costs, and how it is seen.


@pytest.mark.parametrize(
    ("behaviour", "prompt", "completion"), [("ok", 3, 2), ("usage", 7, 9), ("mid_stream", 0, 0)]
)
def test_what_the_provider_takes_is_counted_by_its_usage(
    behaviour: str, prompt: int, completion: int
) -> None:
    with serve_site(behaviour, "absent", price_input=2.0, price_output=6.0) as site:
        for _ in range(3):
            ask(site.port, post())
        eventually(lambda: not site.router.dispatcher.exchanges, "all books are closed")
        cost = 3 * (2.0 * prompt + 6.0 * completion) / 1e6
        assert site.costs.get("ok", 0.0) == pytest.approx(cost)
        assert site.fallbacks == {"absent": 3}
        counted = site.router.dispatcher.counters.by_model()["ok", "llm"]
        assert (counted.prompt_tokens, counted.completion_tokens) == (3 * prompt, 3 * completion)


def test_the_pool_does_not_learn_its_own_speed_from_the_provider() -> None:
    with serve_site("slow_ok", "absent") as site:
        assert ask(site.port, post()).status == 200
        eventually(lambda: not site.router.dispatcher.exchanges, "its books are closed")
        lane = site.router.dispatcher.fleet.routes["ok"].lane
        assert lane.outlook.service_s == 0


def test_the_pool_that_the_page_shows_can_be_used() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)\n```", PAGE, re.DOTALL)
    pool = InferencePool.from_object(pool_object(**yaml.safe_load(example)["spec"]))
    cloud = build_table(pool, [], 1).cloud
    assert cloud is not None
    assert (set(cloud.models), cloud.same_space) == ({"qwen2.5-7b", "bge-m3"}, {"bge-m3"})
    assert (cloud.price_input, cloud.price_output) == (0.3, 0.6)


@pytest.mark.parametrize("cause", CAUSES)
def test_the_page_explains_every_cause(cause: Cause) -> None:
    assert f"`cloud_{cause}`" in PAGE


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_the_page_names_every_route_that_goes_to_a_provider(route: bytes) -> None:
    assert f"`{route.decode()}`" in PAGE


async def listed(table: RoutingTable) -> dict[str, bool]:
    """Models as a router with this table lists them, and whether they are ready."""
    dispatcher = Dispatcher(Limits(), random=Random(1).random)
    dispatcher.swap(table)
    publisher = TablePublisher(dispatcher.swap, lambda: 0.0)
    health = Health(publisher, StillSource().status)
    app = create_app(dispatcher, health, Metrics(dispatcher, publisher, health, 0.0))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
        data = (await client.get("/v1/models")).json()["data"]
        for model in data:
            alone = (await client.get(f"/v1/models/{model['id']}")).json()
            assert alone == model
    return {model["id"]: model["ready"] for model in data}


@pytest.mark.parametrize(
    ("more", "is_ready"),
    [
        ({"cloud": provider(1)}, True),
        ({"cloud": provider(1), "is_starting": True}, True),
        ({"cloud": provider(1, when=("starting",))}, False),
        ({"cloud": provider(1, when=("absent",)), "is_starting": True}, False),
        ({"cloud": provider(1), "suspended": True}, False),
        ({"cloud": provider(1, models={"another": "x"})}, False),
        ({"cloud": provider(1, when=()), "source": "cloud"}, True),
        ({"cloud": provider(1), "absent_role": "embedding"}, False),
        ({"cloud": provider(1, same_space=("ok",)), "absent_role": "embedding"}, True),
        ({"cloud": provider(1), "absent_role": "embedding", "source": "cloud"}, True),
        ({}, False),
    ],
)
async def test_a_model_is_listed_as_ready_where_the_provider_answers_for_it(
    more: dict[str, object], is_ready: bool
) -> None:
    assert await listed(table_of(absent={"ok": "none"}, **more)) == {"ok": is_ready}


def test_who_has_had_his_share_of_the_queue_does_not_go_to_the_provider() -> None:
    scheduling = SchedulingSettings(queue=QueueLimits(max_requests=8))
    session = ("x-session-id: greedy",)
    with serve_site("ok", "overloaded") as site, ExitStack() as stack:
        own = backend(site.engine.port, limit=1)
        site.router.swap(
            table_of(own, cloud=provider(site.provider.port), scheduling=scheduling, version=2)
        )
        queue_up(stack, site.router, [post(fields=session) for _ in range(7)])
        refused = ask(site.port, post(fields=session))
        assert (refused.status, refused.code) == (429, "overloaded")
        assert "your share of the queue is full" in refused.body.decode()
        assert not site.provider.requests
