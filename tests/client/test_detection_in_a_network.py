"""`create_auto` among real servers on the real ports, in a network of its own."""

import os
import sys

import pytest

from client_network import run_in_a_network

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux for a namespace"
    ),
]


def test_an_llm_on_8001_and_embeddings_on_8090() -> None:
    used = run_in_a_network(simulators={8001: ["m"], 8090: ["e=embedding"]})
    assert used["llm"] == ["http://127.0.0.1:8001/v1", "m", 3]
    assert used["embedding"] == ["http://127.0.0.1:8090/v1", "e", 1]


def test_nothing_at_all() -> None:
    used = run_in_a_network()
    assert "no server was found" in used["error"]
    for port in (8001, 8000, 8090, 8080):
        assert f"127.0.0.1:{port}: nothing listens there" in used["error"]


@pytest.mark.parametrize("what", ["page", "healthy", "proxy"])
def test_something_else_on_8001_is_not_taken_for_an_llm(what: str) -> None:
    used = run_in_a_network(web={8001: what}, simulators={8000: ["m"]})
    assert used["llm"] == ["http://127.0.0.1:8000/v1", "m", 3]
    assert "127.0.0.1:8001           something answers" in used["explanation"]


def test_something_mute_on_8001_costs_little_time() -> None:
    used = run_in_a_network(web={8001: "mute"}, simulators={8000: ["m"]})
    assert used["llm"] == ["http://127.0.0.1:8000/v1", "m", 3]
    assert "does not answer within 2 s" in used["explanation"]
    assert used["seconds"] < 8  # 2, and what a busy machine adds


def test_only_embeddings_on_8000_are_taken_for_what_they_are() -> None:
    used = run_in_a_network(simulators={8000: ["e=embedding"]})
    assert "llm" not in used
    assert used["embedding"] == ["http://127.0.0.1:8000/v1", "e", 1]


def test_a_router_on_8000_answers_both() -> None:
    used = run_in_a_network(router=8000)
    assert used["llm"] == ["http://127.0.0.1:8000/v1", "tiny-chat", 3]
    assert used["embedding"] == ["http://127.0.0.1:8000/v1", "tiny-embed", 1]


def test_an_llm_on_8001_goes_before_a_router_on_8000() -> None:
    used = run_in_a_network(simulators={8001: ["m"]}, router=8000)
    assert used["llm"] == ["http://127.0.0.1:8001/v1", "m", 3]
    assert used["embedding"] == ["http://127.0.0.1:8000/v1", "tiny-embed", 1]


def test_the_environments_proxy_is_not_asked_for_this_machine() -> None:
    proxy = {"HTTP_PROXY": "http://127.0.0.1:3128", "ALL_PROXY": "http://127.0.0.1:3128"}
    used = run_in_a_network(web={3128: "proxy"}, simulators={8000: ["m"]}, environ=proxy)
    assert used["llm"] == ["http://127.0.0.1:8000/v1", "m", 3]
    assert used["asked"] == {"3128": 0}


@pytest.mark.parametrize(
    ("pool", "host"),
    [("default/rag", "rag-router.default.svc"), ("rag", "rag-router")],
)
def test_in_a_cluster_a_named_pools_router_is_found_by_its_dns_name(pool: str, host: str) -> None:
    used = run_in_a_network(
        router=80,
        simulators={8001: ["m"]},
        hosts=[host],
        environ={"KUBERNETES_SERVICE_HOST": "10.96.0.1", "SAGEPOOL_POOL": pool},
    )
    assert used["llm"] == [f"http://{host}/v1", "tiny-chat", 3]
    assert used["embedding"] == [f"http://{host}/v1", "tiny-embed", 1]


def test_in_a_cluster_the_router_among_the_pods_services_is_found() -> None:
    used = run_in_a_network(
        router=9000,
        web={9001: "page"},
        environ={
            "KUBERNETES_SERVICE_HOST": "10.96.0.1",
            "MQTT_ROUTER_SERVICE_HOST": "127.0.0.1",
            "MQTT_ROUTER_SERVICE_PORT": "9001",
            "RAG_ROUTER_SERVICE_HOST": "127.0.0.1",
            "RAG_ROUTER_SERVICE_PORT": "9000",
        },
    )
    assert used["llm"] == ["http://127.0.0.1:9000/v1", "tiny-chat", 3]
    assert "RAG_ROUTER_SERVICE_HOST: router with tiny-chat (llm)" in used["explanation"]
