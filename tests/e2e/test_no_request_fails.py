"""Engines, operators and API servers come and go while requests flow: none of them fails."""

import uuid
from typing import Any

import httpx
import pytest

from e2e_images import load_copy
from e2e_installation import Installation
from e2e_pool import Pool
from e2e_traffic import flowing_traffic
from e2e_waiting import wait_until
from sagepool_cluster.errors import Unsupported
from sagepool_cluster.provider import Provider

OUTAGE_S = 20
RECONNECT_S = 150
"""kube-proxy makes the API server's Service reachable again, and after an outage of this length it
looks only after up to 60 s (client-go's back-off of 30 s, doubled by jitter)."""


def read_readiness(url: str) -> dict[str, Any]:
    """What the router says of itself; fails when it is not ready."""
    answer = httpx.get(f"{url}/ready")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def list_models(url: str) -> list[str]:
    """The names that the endpoint offers."""
    return [model["id"] for model in httpx.get(f"{url}/v1/models").json()["data"]]


def wait_router_image(pool: Pool, image: str) -> None:
    """Return when all routers run this image and no other is left."""

    def runs() -> bool:
        router = pool.kubectl.get("deployment", "rag-router")["spec"]["template"]["spec"]
        return bool(router["containers"][0]["image"] == image)

    pool.wait(runs, f"the router does not get the image {image}")
    pool.wait_ready()


def test_no_request_fails_when_an_engine_pod_is_deleted(pool: Pool, url: str) -> None:
    with flowing_traffic(url) as traffic:
        victim, survivor = pool.engines("chat")
        traffic.wait_answers(victim, survivor)
        pool.kubectl.run("delete", "pod", victim, "--wait=false")
        pool.wait(lambda: victim not in pool.instances(), f"{victim} does not go")
        pool.wait_ready()
        (successor,) = pool.engines("chat").keys() - {survivor}
        traffic.wait_answers(successor)
    assert traffic.failures() == {}


def test_no_request_fails_when_a_group_is_scaled_up_and_down(pool: Pool, url: str) -> None:
    with flowing_traffic(url) as traffic:
        pool.scale(0, 3)
        pool.wait_ready()
        assert len(pool.engines("chat")) == 3
        traffic.wait_answers(*pool.engines("chat"))
        pool.scale(0, 1)
        pool.wait_ready()
        assert len(pool.engines("chat")) == 1
        traffic.wait_more(20)
    assert traffic.failures() == {}


def test_no_request_fails_when_engines_get_new_arguments(pool: Pool, url: str) -> None:
    before = set(pool.engines("chat"))
    with flowing_traffic(url) as traffic:
        env = {"name": "ROLLED_BY", "value": uuid.uuid4().hex}
        pool.change({"op": "add", "path": "/spec/groups/0/engine/env", "value": [env]})
        pool.wait(lambda: not before & set(pool.engines("chat")), "the engines do not roll")
        pool.wait_ready()
        traffic.wait_answers(*pool.engines("chat"))
    assert traffic.failures() == {}


@pytest.mark.timeout(480)
def test_no_request_fails_while_the_api_server_is_away(
    pool: Pool, url: str, provider: Provider
) -> None:
    with flowing_traffic(url, clients=4) as traffic:
        try:
            provider.stop_api_server()
        except Unsupported as error:
            pytest.skip(str(error))
        try:
            stopped_at_s = traffic.elapsed_s
            wait_until(
                lambda: not read_readiness(url)["source"]["connected"],
                "the router does not say that it serves from its last table",
                state=lambda: read_readiness(url),
            )
            wait_until(lambda: traffic.elapsed_s - stopped_at_s > OUTAGE_S, "time does not pass")
        finally:
            provider.start_api_server()
        alias = {"op": "add", "path": "/spec/groups/0/model/aliases/-", "value": "newer-alias"}
        pool.change(alias)
        wait_until(
            lambda: "newer-alias" in list_models(url),
            "the router does not catch up",
            limit_s=RECONNECT_S,
            state=lambda: read_readiness(url),
        )
        pool.wait(pool.is_ready, "the operator does not catch up")
        # Kubernetes' own controllers back off for up to a minute; other tests need them too.
        before = set(pool.engines("chat"))
        pool.scale(0, 3)
        pool.wait_ready(limit_s=120)
        (newcomer,) = pool.engines("chat").keys() - before
        traffic.wait_answers(newcomer)
    assert traffic.failures() == {}


def test_an_upgrade_rolls_operator_and_router_but_no_engine_and_fails_no_request(
    pool: Pool, url: str, installation: Installation, provider: Provider
) -> None:
    engines = {name: pod["metadata"]["uid"] for name, pod in pool.engines().items()}
    newer = load_copy(provider, installation.image)
    try:
        with flowing_traffic(url) as traffic:
            installation.install("operator.logLevel=debug", image=newer)
            wait_router_image(pool, newer)
            traffic.wait_more(20)
        assert traffic.failures() == {}
        assert {n: pod["metadata"]["uid"] for n, pod in pool.engines().items()} == engines
    finally:
        installation.install()
        wait_router_image(pool, installation.image)
