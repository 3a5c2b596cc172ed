"""LoRA adapters are models of the instances that have them, and of no others."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from crd_objects import group_object, pool_object
from router_app_objects import named_instance, ready
from router_engines import Engine, serve_engine
from router_scheduling import queue_up
from router_server import RouterServer, serve_router
from router_wire import Response, ask, post
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import InferencePool
from sagepool_router.limits import Limits
from sagepool_router.table import RoutingTable, build_table

QUICK = Limits(sweep_tick_s=0.02)
BOT = {"name": "bot", "uri": "hf://acme/bot"}
ZERO = {"minReplicas": 0, "maxReplicas": 4, "target": {"inFlight": 8}, "holdSeconds": 60}


def chat(model: str) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return post(body=json.dumps(body).encode())


def instance(name: str, port: int, **adapters: str) -> dict[str, Any]:
    """A ready instance of group chat with adapters in these phases."""
    found = ready(named_instance(name, f"http://127.0.0.1:{port}", group="chat"))
    found["status"]["adapters"] = [{"name": n, "phase": p} for n, p in adapters.items()]
    return found


def table(
    *instances: dict[str, Any], version: int = 1, adapters: tuple[Any, ...] = (BOT,), **group: Any
) -> RoutingTable:
    groups = [
        group_object(**{"adapters": list(adapters), **group}),
        pool_object()["spec"]["groups"][1],
    ]
    return build_table(
        InferencePool.from_object(pool_object(groups=groups)),
        [InferenceInstance.from_object(one) for one in instances],
        version,
    )


@dataclass(frozen=True)
class Site:
    """A router and two engines."""

    router: RouterServer
    a: Engine
    b: Engine

    def ask(self, model: str) -> Response:
        return ask(self.router.port, chat(model))


@contextmanager
def site(first: RoutingTable | None = None) -> Iterator[Site]:
    with ExitStack() as stack:
        a, b = (stack.enter_context(serve_engine("ok")) for _ in range(2))
        router = stack.enter_context(serve_router(first or table(), QUICK))
        yield Site(router, a, b)


def models_of(engine: Engine) -> list[str]:
    return [json.loads(request.body)["model"] for request in engine.requests]


def assert_unknown(response: Response) -> None:
    assert (response.status, response.code) == (404, "model_not_found")
    assert response.error["type"] == "invalid_request_error"


def test_an_adapters_requests_go_only_to_instances_that_have_it() -> None:
    with site() as here:
        b = instance("b", here.b.port, bot="Loaded")
        here.router.swap(table(instance("a", here.a.port, bot="Failed"), b, version=2))
        assert [here.ask("bot").status for _ in range(6)] == [200] * 6
        assert (models_of(here.a), models_of(here.b)) == ([], ["bot"] * 6)


def test_its_model_is_answered_by_all() -> None:
    with site() as here:
        b = instance("b", here.b.port, bot="Loaded")
        here.router.swap(table(instance("a", here.a.port), b, version=2))
        assert [here.ask("qwen2.5-7b").status for _ in range(8)] == [200] * 8
        assert {*models_of(here.a), *models_of(here.b)} == {"qwen2.5-7b"}
        assert here.a.requests
        assert here.b.requests


def test_an_adapter_comes_and_goes_with_the_instances_status() -> None:
    with site() as here:
        here.router.swap(table(instance("a", here.a.port), version=2, adapters=()))
        assert_unknown(here.ask("bot"))
        here.router.swap(table(instance("a", here.a.port, bot="Loaded"), version=3))
        assert here.ask("bot").status == 200
        here.router.swap(table(instance("a", here.a.port), version=4, adapters=()))
        assert_unknown(here.ask("bot"))
        assert here.ask("qwen2.5-7b").status == 200


def test_one_that_no_instance_could_load_is_no_model() -> None:
    with site() as here:
        here.router.swap(table(instance("a", here.a.port, bot="Failed"), version=2))
        response = here.ask("bot")
        assert_unknown(response)
        assert "qwen2.5-7b" in str(response.error["message"])


def test_one_that_is_being_loaded_is_absent_for_now() -> None:
    with site() as here:
        here.router.swap(table(instance("a", here.a.port, bot="Loading"), version=2))
        response = here.ask("bot")
        assert (response.status, response.code) == (503, "no_instance")
        assert "bot is being loaded" in str(response.error["message"])
        assert "retry-after" in response.headers


def test_one_shares_the_absence_of_its_model() -> None:
    with site() as here:
        response = here.ask("bot")
        assert (response.status, response.code) == (503, "no_instance")


def test_requests_wait_from_zero_until_the_adapter_is_loaded() -> None:
    def scaled(*instances: dict[str, Any], version: int) -> RoutingTable:
        return table(*instances, version=version, replicas=None, scaling=ZERO)

    with site(scaled(version=1)) as here, ExitStack() as stack:
        (client,) = queue_up(stack, here.router, [chat("bot")])
        (demand, _) = here.router.call(here.router.dispatcher.demand.report)
        assert (demand.queued_requests, demand.unmet_s is not None) == (1, True)
        here.router.swap(scaled(instance("a", here.a.port, bot="Loading"), version=2))
        assert here.router.phases() == ["scheduling"]
        here.router.swap(scaled(instance("a", here.a.port, bot="Loaded"), version=3))
        assert client.response().status == 200
        assert models_of(here.a) == ["bot"]


def test_requests_wait_while_the_last_engine_that_has_it_is_replaced() -> None:
    with site() as here, ExitStack() as stack:
        here.router.swap(table(instance("a", here.a.port, bot="Loaded"), version=2))
        assert here.ask("bot").status == 200
        here.router.swap(table(instance("b", here.b.port, bot="Loading"), version=3))
        (client,) = queue_up(stack, here.router, [chat("bot")])
        here.router.swap(table(instance("b", here.b.port, bot="Loaded"), version=4))
        assert client.response().status == 200
        assert models_of(here.b) == ["bot"]


def test_what_waits_for_an_adapter_that_is_taken_away_is_refused() -> None:
    with site() as here, ExitStack() as stack:
        here.router.swap(table(instance("a", here.a.port, bot="Loaded"), version=2))
        assert here.ask("bot").status == 200
        here.router.swap(table(instance("a", here.a.port, bot="Loading"), version=3))
        (client,) = queue_up(stack, here.router, [chat("bot")])
        here.router.swap(table(instance("a", here.a.port), version=4, adapters=()))
        assert_unknown(client.response())


def test_an_adapter_neither_embeds_nor_takes_a_name_from_another_role() -> None:
    with site() as here:
        taken = instance("a", here.a.port, bot="Loaded", **{"bge-m3": "Loaded"})
        here.router.swap(table(taken, version=2))
        embed = post(path="/v1/embeddings", body=b'{"model": "bot", "input": "x"}')
        assert ask(here.router.port, embed).code == "conflicting_request_type"
        assert here.ask("bge-m3").code == "conflicting_request_type"
        assert here.a.requests == []


@pytest.mark.parametrize("phase", ["Loading", "Failed"])
def test_another_instance_that_lacks_it_changes_nothing(phase: str) -> None:
    with site() as here:
        a = instance("a", here.a.port, bot=phase)
        here.router.swap(table(a, instance("b", here.b.port, bot="Loaded"), version=2))
        assert here.ask("bot").status == 200


def test_connections_and_load_of_an_instance_outlive_a_change_of_its_adapters() -> None:
    with site() as here:
        here.router.swap(table(instance("a", here.a.port, bot="Loaded"), version=2))
        assert here.ask("bot").status == 200
        before = here.router.call(lambda: here.router.dispatcher.fleet.backends)
        here.router.swap(table(instance("a", here.a.port), version=3, adapters=()))
        after = here.router.call(lambda: here.router.dispatcher.fleet.backends)
        assert [id(one) for one in before] == [id(one) for one in after]
        assert here.ask("qwen2.5-7b").status == 200
        assert [request.connection for request in here.a.requests] == [1, 1]
