"""The order of detection, and what it tells."""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import sagepool
from sagepool.catalog import Served
from sagepool.detection import ROUTER_OWNER, detect
from sagepool.endpoints import Endpoint
from sagepool.environment import CLOUD_URL
from sagepool.laptop.home import Home
from sagepool.probes import KeyWantedError, NotServingError

CHAT = Served({"llm": ("chatty",)})
EMBEDDING = Served({"embedding": ("embedder",)})
BOTH = Served({"llm": ("chatty",), "embedding": ("embedder",)}, owners=frozenset({ROUTER_OWNER}))
TEI = Served({"embedding": ("bge",)}, takes_any_name=True)


class World:
    """Which servers there are, by host and port; counts who was asked."""

    def __init__(self, servers: Mapping[str, Served]) -> None:
        self._servers = servers
        self.asked: list[str] = []

    async def __call__(self, endpoint: Endpoint) -> Served:
        address = endpoint.base_url.removeprefix("http://").removesuffix("/v1")
        self.asked.append(address)
        if address not in self._servers:
            raise NotServingError("nothing listens there")
        return self._servers[address]


def look(
    environ: Mapping[str, str] | None = None, ports: Mapping[int, Served] | None = None, **more: Any
) -> sagepool.Detection:
    servers = {f"127.0.0.1:{port}": served for port, served in (ports or {}).items()}
    world = World({**servers, **more.pop("elsewhere", {})})
    return detect(environ or {}, ask=world, **more)


def chosen(detection: sagepool.Detection) -> tuple[str | None, str | None]:
    return (
        detection.llm and detection.llm.base_url,
        detection.embedding and detection.embedding.base_url,
    )


class TestOrder:
    def test_a_forced_cloud_is_all_there_is(self) -> None:
        world = World({"127.0.0.1:8001": CHAT})
        environ = {
            "SAGE_FORCE_CLOUD_API": "true",
            "DASHSCOPE_API_KEY": "k",
            "SAGE_UNIFIED_BASE_URL": "http://a",
            "SAGE_CHAT_BASE_URL": "http://b",
            "KUBERNETES_SERVICE_HOST": "10.0.0.1",
            "SAGEPOOL_POOL": "rag",
        }
        assert chosen(detect(environ, ask=world)) == (CLOUD_URL, CLOUD_URL)
        assert world.asked == []

    def test_a_forced_cloud_without_a_key_is_an_error(self) -> None:
        with pytest.raises(sagepool.ConfigurationError, match="set DASHSCOPE_API_KEY"):
            look({"SAGE_FORCE_CLOUD_API": "true"}, {8001: CHAT})

    def test_a_forced_cloud_for_one_kind_leaves_the_other_without(self) -> None:
        found = look({"SAGE_FORCE_CLOUD_API": "1", "SAGE_CHAT_API_KEY": "k"}, {8090: EMBEDDING})
        assert chosen(found) == (CLOUD_URL, None)

    def test_then_the_unified_server(self) -> None:
        world = World({"127.0.0.1:8001": CHAT})
        environ = {"SAGE_UNIFIED_BASE_URL": "http://a", "SAGE_CHAT_BASE_URL": "http://b"}
        assert chosen(detect(environ, ask=world)) == ("http://a/v1", "http://a/v1")
        assert world.asked == []

    def test_then_a_server_for_each_kind(self) -> None:
        found = look(
            {"SAGE_CHAT_BASE_URL": "http://b", "SAGE_EMBEDDING_BASE_URL": "http://c"}, {8001: CHAT}
        )
        assert chosen(found) == ("http://b/v1", "http://c/v1")

    def test_a_kind_without_its_own_is_looked_for_further(self) -> None:
        found = look({"SAGE_CHAT_BASE_URL": "http://b"}, {8001: CHAT, 8090: EMBEDDING})
        assert chosen(found) == ("http://b/v1", "http://127.0.0.1:8090/v1")

    def test_then_the_clusters_router(self) -> None:
        environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "SAGEPOOL_POOL": "ns/rag"}
        router = "http://rag-router.ns.svc/v1"
        assert chosen(look(environ, {8001: CHAT, 8090: EMBEDDING})) == (router, router)

    def test_a_pool_is_looked_for_in_a_cluster_only(self) -> None:
        assert chosen(look({"SAGEPOOL_POOL": "rag"}, {8001: CHAT}))[0] == "http://127.0.0.1:8001/v1"

    def test_then_this_machine(self) -> None:
        environ = {"DASHSCOPE_API_KEY": "k"}
        assert chosen(look(environ, {8001: CHAT, 8090: EMBEDDING})) == (
            "http://127.0.0.1:8001/v1",
            "http://127.0.0.1:8090/v1",
        )

    def test_then_the_cloud(self) -> None:
        assert chosen(look({"DASHSCOPE_API_KEY": "k"})) == (CLOUD_URL, CLOUD_URL)

    def test_also_for_one_kind_alone(self) -> None:
        found = look({"DASHSCOPE_API_KEY": "k"}, {8001: CHAT})
        assert chosen(found) == ("http://127.0.0.1:8001/v1", CLOUD_URL)

    def test_and_at_last_an_error_that_lists_what_was_tried(self) -> None:
        detection = look()
        with pytest.raises(sagepool.NothingFoundError) as told:
            detection.endpoints()
        for place in ("SAGE_UNIFIED_BASE_URL", "SAGE_CHAT_BASE_URL", "cluster", "127.0.0.1:8001"):
            assert place in str(told.value)
        for place in ("127.0.0.1:8000", "127.0.0.1:8090", "127.0.0.1:8080", "DASHSCOPE_API_KEY"):
            assert place in str(told.value)
        assert told.value.detection is detection


class TestThisMachine:
    @pytest.mark.parametrize(
        ("ports", "llm", "embedding"),
        [
            ({8001: CHAT, 8000: CHAT}, 8001, None),
            ({8000: CHAT}, 8000, None),
            ({8090: EMBEDDING, 8080: EMBEDDING}, None, 8090),
            ({8080: EMBEDDING}, None, 8080),
            ({8000: EMBEDDING}, None, 8000),
            ({8001: EMBEDDING, 8000: CHAT}, 8000, 8001),
            ({8000: BOTH}, 8000, 8000),
            ({8001: CHAT, 8000: BOTH}, 8001, 8000),
            ({8001: CHAT, 8000: BOTH, 8090: EMBEDDING}, 8001, 8090),
            ({8090: CHAT, 8001: EMBEDDING}, 8090, 8001),
        ],
    )
    def test_a_server_is_taken_for_what_it_serves(
        self, ports: Mapping[int, Served], llm: int | None, embedding: int | None
    ) -> None:
        def url(port: int | None) -> str | None:
            return None if port is None else f"http://127.0.0.1:{port}/v1"

        assert chosen(look({}, ports)) == (url(llm), url(embedding))

    def test_the_models_that_it_serves_are_taken_along(self) -> None:
        found = look({}, {8000: BOTH})
        assert found.llm is not None
        assert found.embedding is not None
        assert (found.llm.model, found.embedding.model) == ("chatty", "embedder")

    def test_a_model_that_is_wanted_is_looked_for(self) -> None:
        other = Served({"llm": ("small", "big")})
        found = look({"SAGE_CHAT_MODEL": "big"}, {8001: CHAT, 8000: other})
        assert found.llm is not None
        assert (found.llm.base_url, found.llm.model) == ("http://127.0.0.1:8000/v1", "big")
        assert "serves chatty (llm), not big" in str(found)

    def test_an_argument_wins_over_the_environment(self) -> None:
        served = Served({"llm": ("a", "b")})
        found = look({"SAGE_CHAT_MODEL": "a"}, {8001: served}, llm_model="b")
        assert found.llm is not None
        assert found.llm.model == "b"

    def test_a_server_that_takes_any_name_serves_the_one_that_is_wanted(self) -> None:
        found = look({}, {8090: TEI}, embedding_model="BAAI/bge-m3")
        assert found.embedding is not None
        assert found.embedding.model == "bge"


class TestPoolsHere:
    @pytest.fixture
    def environ(self, tmp_path: Path) -> dict[str, str]:
        return {"SAGE_HOME": str(tmp_path)}

    @contextlib.contextmanager
    def running(self, environ: Mapping[str, str], name: str, port: int) -> Iterator[None]:
        """A place as a supervisor holds it."""
        place = Home.of(environ).place("pool", name)
        place.make()
        place.record.write_text(json.dumps({"name": name, "address": f"http://127.0.0.1:{port}"}))
        lock = place.lock()
        assert lock is not None
        try:
            yield
        finally:
            os.close(lock)

    def test_a_pool_is_found_at_its_own_port_before_the_usual_ones(
        self, environ: dict[str, str]
    ) -> None:
        with self.running(environ, "rag", 8123):
            found = look(environ, {8123: BOTH, 8001: CHAT, 8000: BOTH})
        assert chosen(found) == ("http://127.0.0.1:8123/v1", "http://127.0.0.1:8123/v1")
        told = [" ".join(line.split()) for line in str(found).splitlines()]
        assert told[-2] == (
            "pool rag here http://127.0.0.1:8123 serves chatty (llm); embedder (embedding) "
            "-> llm and embedding"
        )

    def test_a_pool_on_8000_goes_before_a_plain_engine_on_8001(
        self, environ: dict[str, str]
    ) -> None:
        ports = {8001: CHAT, 8000: BOTH}
        assert chosen(look(environ, ports))[0] == "http://127.0.0.1:8001/v1"
        with self.running(environ, "rag", 8000):
            assert chosen(look(environ, ports))[0] == "http://127.0.0.1:8000/v1"

    def test_what_it_does_not_serve_is_looked_for_further(self, environ: dict[str, str]) -> None:
        with self.running(environ, "rag", 8123):
            found = look(environ, {8123: CHAT, 8090: EMBEDDING})
        assert chosen(found) == ("http://127.0.0.1:8123/v1", "http://127.0.0.1:8090/v1")

    def test_two_pools_may_share_the_work(self, environ: dict[str, str]) -> None:
        with self.running(environ, "a", 8123), self.running(environ, "b", 8124):
            found = look(environ, {8123: CHAT, 8124: EMBEDDING})
        assert chosen(found) == ("http://127.0.0.1:8123/v1", "http://127.0.0.1:8124/v1")

    def test_two_that_serve_the_same_are_not_guessed_at(self, environ: dict[str, str]) -> None:
        says = "a at http://127.0.0.1:8123, b at http://127.0.0.1:8124.*--base-url.*SAGE_UNIFIED_BASE_URL"
        with (
            self.running(environ, "a", 8123),
            self.running(environ, "b", 8124),
            pytest.raises(sagepool.ConfigurationError, match=says),
        ):
            look(environ, {8123: BOTH, 8124: CHAT})

    def test_a_model_chooses_between_two(self, environ: dict[str, str]) -> None:
        with self.running(environ, "a", 8123), self.running(environ, "b", 8124):
            served = {8123: Served({"llm": ("small",)}), 8124: Served({"llm": ("big",)})}
            found = look(environ, served, llm_model="big")
        assert chosen(found)[0] == "http://127.0.0.1:8124/v1"

    def test_what_a_crash_has_left_is_not_asked(self, environ: dict[str, str]) -> None:
        with self.running(environ, "rag", 8123):
            pass
        found = look(environ, {8123: BOTH})
        assert chosen(found) == (None, None)
        assert f"none of {environ['SAGE_HOME']} runs" in str(found)

    @pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"address": null}'])
    def test_a_record_that_is_none_is_passed_over(
        self, environ: dict[str, str], record: str
    ) -> None:
        with self.running(environ, "rag", 8123):
            Home.of(environ).place("pool", "rag").record.write_text(record)
            assert chosen(look(environ, {8001: CHAT}))[0] == "http://127.0.0.1:8001/v1"

    def test_one_that_wants_a_key_is_not_passed_over_for_a_provider(
        self, environ: dict[str, str]
    ) -> None:
        async def ask(_endpoint: Endpoint) -> Served:
            raise KeyWantedError("wants an API key")

        says = r"pool rag here \(http://127.0.0.1:8123\) wants an API key: set SAGEPOOL_API_KEY"
        with (
            self.running(environ, "rag", 8123),
            pytest.raises(sagepool.ConfigurationError, match=says),
        ):
            detect({**environ, "DASHSCOPE_API_KEY": "k"}, ask=ask)


class TestKeysOfThisMachine:
    """Anything may listen on a usual port."""

    @staticmethod
    def look(environ: Mapping[str, str]) -> tuple[sagepool.Detection, list[tuple[str, str | None]]]:
        asked: list[tuple[str, str | None]] = []

        async def ask(endpoint: Endpoint) -> Served:
            asked.append((endpoint.base_url, endpoint.api_key))
            if endpoint.base_url.endswith(":8000/v1"):
                return CHAT
            if endpoint.base_url.endswith(":8090/v1") and endpoint.api_key is None:
                raise KeyWantedError("wants an API key")
            if endpoint.base_url.endswith(":8090/v1"):
                return EMBEDDING
            raise NotServingError("nothing listens there")

        return detect(environ, ask=ask), asked

    def test_only_who_asks_for_one_gets_it(self) -> None:
        found, asked = self.look({"SAGEPOOL_API_KEY": "secret"})
        assert [url for url, key in asked if key] == ["http://127.0.0.1:8090/v1"]
        assert found.llm == Endpoint("http://127.0.0.1:8000/v1", None, "chatty")
        assert found.embedding == Endpoint("http://127.0.0.1:8090/v1", "secret", "embedder")

    def test_without_one_nobody_is_asked_twice(self) -> None:
        found, asked = self.look({"SAGE_UNIFIED_API_KEY": "another"})
        assert (found.embedding, len(asked)) == (None, 4)
        assert {key for _, key in asked} == {None}


IN_A_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


class TestCluster:
    def link(self, name: str, host: str) -> dict[str, str]:
        return {f"{name}_ROUTER_SERVICE_HOST": host, f"{name}_ROUTER_SERVICE_PORT": "80"}

    def test_the_router_is_told_from_other_services_of_such_a_name(self) -> None:
        environ = {**IN_A_CLUSTER, **self.link("MQTT", "10.0.0.2"), **self.link("RAG", "10.0.0.3")}
        elsewhere = {"10.0.0.2:80": CHAT, "10.0.0.3:80": BOTH}
        router = "http://10.0.0.3:80/v1"
        assert chosen(look(environ, {8001: CHAT}, elsewhere=elsewhere)) == (router, router)

    def test_a_router_that_serves_one_kind_is_taken_for_it(self) -> None:
        environ = {**IN_A_CLUSTER, **self.link("RAG", "10.0.0.3")}
        served = Served({"llm": ("chatty",)}, owners=frozenset({ROUTER_OWNER}))
        found = look(environ, {8090: EMBEDDING}, elsewhere={"10.0.0.3:80": served})
        assert chosen(found) == ("http://10.0.0.3:80/v1", "http://127.0.0.1:8090/v1")

    def test_several_routers_are_not_guessed_at(self) -> None:
        environ = {**IN_A_CLUSTER, **self.link("A", "10.0.0.2"), **self.link("B", "10.0.0.3")}
        with pytest.raises(sagepool.ConfigurationError, match="set SAGEPOOL_POOL"):
            look(environ, elsewhere={"10.0.0.2:80": BOTH, "10.0.0.3:80": BOTH})

    def test_none_is_told_with_the_way_out(self) -> None:
        assert "no pool's router among this pod's Services: set SAGEPOOL_POOL" in str(
            look(IN_A_CLUSTER)
        )


class TestTelling:
    def test_every_place_what_was_there_and_what_was_chosen(self) -> None:
        told = [" ".join(line.split()) for line in str(look({}, {8000: BOTH})).splitlines()]
        assert "127.0.0.1:8001 nothing listens there" in told
        assert (
            "127.0.0.1:8000 serves chatty (llm); embedder (embedding) -> llm and embedding" in told
        )
        assert told[-1] == (
            "llm: http://127.0.0.1:8000/v1 (127.0.0.1:8000), "
            "embedding: http://127.0.0.1:8000/v1 (127.0.0.1:8000)"
        )

    def test_one_line_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "sagepool"):
            look({"SAGE_CHAT_BASE_URL": "http://b", "SAGE_CHAT_API_KEY": "secret"}, {})
        (record,) = [r for r in caplog.records if r.name == "sagepool"]
        assert record.getMessage().startswith("detected llm: http://b/v1 (SAGE_CHAT_BASE_URL)")
        assert "secret" not in caplog.text

    def test_keys_are_not_told(self) -> None:
        environ = {"SAGE_CHAT_BASE_URL": "http://b", "SAGE_CHAT_API_KEY": "secret"}
        assert "secret" not in str(look(environ)) + repr(look(environ))

    def test_a_kind_without_a_server_is_told_when_it_is_asked_for(self) -> None:
        detection = look({"SAGE_CHAT_BASE_URL": "http://b"})
        client = sagepool.UnifiedInferenceClient(detection.endpoints(), {}, detection)
        with client, pytest.raises(sagepool.NothingFoundError, match="SAGE_EMBEDDING_BASE_URL"):
            client.embed("a")
        assert client.explain() == str(detection)


async def test_it_blocks_also_where_a_loop_runs_already() -> None:
    assert asyncio.get_running_loop() is not None
    assert chosen(look({}, {8001: CHAT}))[0] == "http://127.0.0.1:8001/v1"


@pytest.mark.parametrize(
    ("host", "warnings"),
    [({}, 0), (IN_A_CLUSTER, 2), ({**IN_A_CLUSTER, "SAGE_FORCE_CLOUD_API": "true"}, 0)],
)
def test_the_cloud_inside_a_cluster_is_warned_of(
    caplog: pytest.LogCaptureFixture, host: dict[str, str], warnings: int
) -> None:
    look({**host, "DASHSCOPE_API_KEY": "k"}, {})
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == warnings
    assert all("SAGEPOOL_POOL" in record.getMessage() for record in told)
