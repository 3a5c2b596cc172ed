"""The application's routes: OpenAI-shaped, honest about readiness, read-only."""

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.openapi.models import OpenAPI
from prometheus_client.parser import text_string_to_metric_families

from crd_objects import pool_object
from router_app_objects import StillSource, named_instance, ready
from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import InferencePool
from sagepool_router.app import create_admin_app, create_app
from sagepool_router.dispatcher import Dispatcher
from sagepool_router.facts import ENDPOINTS
from sagepool_router.health import Health
from sagepool_router.limits import Limits
from sagepool_router.metrics import Metrics
from sagepool_router.scheduling.scheduler import Gpu
from sagepool_router.scheduling.settings import SchedulingSettings
from sagepool_router.scheduling.shared_gpu import SharedGpu
from sagepool_router.sources.publisher import TablePublisher
from sagepool_router.sources.status import SourceStatus


class Site:
    """A router without its sockets."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher(Limits(), random=Random(1).random)
        self.publisher = TablePublisher(self.dispatcher.swap, lambda: 1_700_000_000.0)
        self.source = StillSource()
        self.health = Health(self.publisher, self.source.status)
        metrics = Metrics(self.dispatcher, self.publisher, self.health, 1_600_000_000.0)
        self.app = create_app(self.dispatcher, self.health, metrics)
        self.client = _client(self.app)
        self.admin = _client(create_admin_app(self.dispatcher, self.health, metrics))

    def load(self, *instances: dict[str, Any], **spec: Any) -> None:
        self.publisher.publish(
            InferencePool.from_object(pool_object(**spec)),
            [InferenceInstance.from_object(i) for i in instances],
        )


def _client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://router")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found = Site()
    async with found.client, found.admin:
        yield found


def error_of(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_models_lists_names_and_aliases_with_what_answers_for_them(site: Site):
    site.load(ready(named_instance("a")))
    listed = (await site.client.get("/v1/models")).json()
    assert listed["object"] == "list"
    found = {m["id"]: (m["object"], m["root"], m["role"], m["ready"]) for m in listed["data"]}
    assert found == {
        "qwen2.5-7b": ("model", "qwen2.5-7b", "llm", True),
        "gpt-4o-mini": ("model", "qwen2.5-7b", "llm", True),
        "bge-m3": ("model", "bge-m3", "embedding", False),
    }


async def test_an_adapter_is_listed_with_its_model_as_parent(site: Site):
    instance = ready(named_instance("a"))
    instance["status"]["adapters"] = [
        {"name": "bot", "phase": "Loaded"},
        {"name": "other", "phase": "Failed"},
    ]
    site.load(instance)
    listed = (await site.client.get("/v1/models")).json()["data"]
    found = {m["id"]: (m["root"], m["parent"], m["role"], m["ready"]) for m in listed}
    assert found["bot"] == ("bot", "qwen2.5-7b", "llm", True)
    assert found["qwen2.5-7b"] == ("qwen2.5-7b", None, "llm", True)
    assert "other" not in found
    assert (await site.client.get("/v1/models/bot")).json()["parent"] == "qwen2.5-7b"


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/v1/unload_lora_adapter"])
async def test_clients_load_no_adapters(site: Site, path: str):
    site.load(ready(named_instance("a")))
    body = {"lora_name": "bot", "lora_path": "acme/bot", "model": "qwen2.5-7b"}
    answer = await site.client.post(path, json=body)
    assert answer.status_code == 404


async def test_one_model_is_found_by_alias_and_by_a_name_with_a_slash(site: Site):
    group = pool_object()["spec"]["groups"][0]
    site.load(groups=[{**group, "model": {"name": "org/chat", "aliases": ["short"]}}])
    assert (await site.client.get("/v1/models/org/chat")).json()["id"] == "org/chat"
    assert (await site.client.get("/v1/models/short")).json()["root"] == "org/chat"


async def test_an_unknown_model_is_404_and_lists_the_known_ones(site: Site):
    site.load()
    answer = await site.client.get("/v1/models/gpt-9")
    assert answer.status_code == 404
    error = error_of(answer)
    assert error["code"] == "model_not_found"
    assert "qwen2.5-7b" in error["message"]


async def test_models_without_a_table_is_503_and_not_an_empty_list(site: Site):
    answer = await site.client.get("/v1/models")
    assert answer.status_code == 503
    assert error_of(answer)["code"] == "no_table"
    assert int(answer.headers["retry-after"]) > 0


async def test_health_says_that_the_process_lives(site: Site):
    assert (await site.client.get("/health")).json() == {"status": "ok"}


async def test_before_a_table_it_is_not_ready_and_says_why(site: Site):
    site.source.said = SourceStatus("kubernetes", "default/rag", False, 3.0, "refused")
    answer = await site.client.get("/ready")
    assert answer.status_code == 503
    body = answer.json()
    assert body["reasons"] == ["no table was loaded yet from kubernetes default/rag", "refused"]
    assert body["source"]["connected"] is False


async def test_without_a_pool_it_is_not_ready_and_names_the_problem(site: Site):
    said = SourceStatus("kubernetes", "default/rag", True, 3.0, problems=("there is no pool",))
    site.source.said = said
    assert (await site.client.get("/ready")).json()["reasons"][1:] == ["there is no pool"]


async def test_with_a_table_it_stays_ready_without_the_api_server_and_says_so(site: Site):
    site.load(ready(named_instance("a")), named_instance("b"))
    site.source.said = SourceStatus("kubernetes", "default/rag", False, 61.0, "refused")
    answer = await site.client.get("/ready")
    assert answer.status_code == 200
    body = answer.json()
    assert body["instances"] == {"ready": 1, "total": 2}
    assert (body["source"]["seconds"], body["source"]["error"]) == (61.0, "refused")


async def test_a_stopping_router_is_not_ready_on_both_ports(site: Site):
    site.load()
    site.health.stop()
    for client in (site.client, site.admin):
        answer = await client.get("/ready")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == ["the router is shutting down"]


async def test_an_unknown_route_is_404(site: Site):
    answer = await site.client.get("/v1/modles")
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "unknown_route"


async def test_a_slash_at_the_end_is_not_redirected(site: Site):
    assert (await site.client.get("/health/")).status_code == 404


@pytest.mark.parametrize("path", ["/v1/models", "/ready", "/v1/models/x", "/metrics"])
async def test_a_wrong_method_is_405_and_says_which_is_allowed(site: Site, path: str):
    answer = await site.client.post(path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
    assert error_of(answer)["code"] == "method_not_allowed"


async def test_every_answer_carries_the_clients_request_id(site: Site):
    for path in ("/health", "/nope"):
        answer = await site.client.get(path, headers={"x-request-id": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1"


async def test_an_unusable_request_id_is_replaced(site: Site):
    ids = set()
    for given in ("has space", "x" * 129, ""):
        answer = await site.client.get("/health", headers={"x-request-id": given})
        ids.add(answer.headers["x-request-id"])
    assert len(ids) == 3
    assert not ids & {"has space", "x" * 129, ""}


async def test_a_mistake_of_ours_is_an_openai_shaped_500_with_an_id(
    site: Site, caplog: pytest.LogCaptureFixture
):
    @site.app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError

    answer = await site.client.get("/broken", headers={"x-request-id": "mine-2"})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "mine-2"
    assert error_of(answer)["code"] == "internal_error"
    assert "request failed" in [record.message for record in caplog.records]


async def test_a_bad_parameter_is_400(site: Site):
    @site.app.get("/number/{n}")
    async def number(n: int) -> int:
        return n

    answer = await site.client.get("/number/x")
    assert answer.status_code == 400
    assert error_of(answer)["param"] == "n"


async def test_there_are_no_pages_of_docs_and_no_cors(site: Site):
    assert (await site.client.get("/docs")).status_code == 404
    assert (await site.client.get("/redoc")).status_code == 404
    answer = await site.client.get("/health", headers={"origin": "http://evil"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_openapi_is_valid_and_documents_every_route(site: Site):
    document = (await site.client.get("/openapi.json")).json()
    OpenAPI.model_validate(document)
    inference = {endpoint.path.decode() for endpoint in ENDPOINTS.values()}
    own = {"/v1/models", "/v1/models/{model}", "/health", "/ready", "/metrics"}
    assert set(document["paths"]) == inference | own
    for path in inference:
        (operation,) = document["paths"][path].values()
        ((content_type, content),) = operation["requestBody"]["content"].items()
        is_form = path == "/v1/audio/transcriptions"
        assert content_type == ("multipart/form-data" if is_form else "application/json")
        assert "model" in content["schema"]["required"]
        named = {parameter["name"] for parameter in operation["parameters"]}
        assert {"x-sagepool-request-type", "x-session-id", "x-sagepool-priority"} <= named
        assert {"200", "400", "404", "413", "429", "502", "503", "504"} <= set(
            operation["responses"]
        )
    ids = [o["operationId"] for p in document["paths"].values() for o in p.values()]
    assert len(ids) == len(set(ids))


async def test_an_inference_route_in_an_unusual_spelling_is_404(site: Site):
    answer = await site.client.post("/v1/chat%2Fcompletions", json={"model": "x"})
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "unknown_route"


async def read_metrics(site: Site) -> dict[tuple[str, ...], float]:
    """Values by metric name and label values."""
    answer = await site.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.text))
    assert all(family.documentation and family.type != "unknown" for family in families)
    return {(s.name, *s.labels.values()): s.value for f in families for s in f.samples}


async def test_metrics_tell_the_counters_the_table_and_the_process(site: Site):
    site.load(ready(named_instance("a")), named_instance("b"))
    counts = site.dispatcher.counters.of_model("qwen2.5-7b", "llm")
    counts.codes[200] += 2
    counts.codes[502] += 1
    counts.request_seconds.observe(0.3)
    counts.prompt_tokens, counts.completion_tokens = 7, 5
    counts.cloud_cost = 0.25
    site.dispatcher.counters.unrouted.codes[404] += 1
    site.dispatcher.counters.count_retry("connect")
    found = await read_metrics(site)
    prefix = "sagepool_router_"
    assert found[prefix + "requests_total", "qwen2.5-7b", "llm", "200"] == 2
    assert found[prefix + "requests_total", "qwen2.5-7b", "llm", "502"] == 1
    assert found[prefix + "requests_total", "", "", "404"] == 1
    assert found[prefix + "request_seconds_bucket", "qwen2.5-7b", "llm", "0.5"] == 1
    assert found[prefix + "request_seconds_bucket", "qwen2.5-7b", "llm", "0.25"] == 0
    assert found[prefix + "tokens_total", "qwen2.5-7b", "llm", "prompt"] == 7
    assert found[prefix + "tokens_total", "qwen2.5-7b", "llm", "completion"] == 5
    assert found[prefix + "cloud_cost_total", "qwen2.5-7b", "llm"] == 0.25
    assert found[prefix + "retries_total", "connect"] == 1
    assert found[prefix + "inflight", "a", "llm"] == 0
    assert found[prefix + "breaker_open", "a", "llm"] == 0
    assert found[prefix + "instances", "true"] == 1
    assert found[prefix + "instances", "false"] == 1
    assert found[(prefix + "table_version",)] == 1
    assert found[(prefix + "table_timestamp_seconds",)] == 1_700_000_000
    assert found[prefix + "source_up", "kubernetes"] == 1
    assert found[("process_start_time_seconds",)] == 1_600_000_000
    assert found[("process_resident_memory_bytes",)] > 1_000_000
    assert found[("process_cpu_seconds_total",)] > 0


async def test_metrics_tell_why_embeddings_are_held_back_on_a_shared_gpu(site: Site):
    gpu = site.dispatcher.scheduler.gpus["gpu-1"] = Gpu(SharedGpu(SchedulingSettings()))
    name = "sagepool_router_embeddings_held_back"
    assert (name, "gpu-1", "first_token") not in await read_metrics(site)
    gpu.state.held_back_by = "first_token"
    assert (await read_metrics(site))[name, "gpu-1", "first_token"] == 1


async def test_metrics_parse_before_a_table_and_say_that_the_source_is_lost(site: Site):
    site.source.said = SourceStatus("file", "pool.yaml", False, 1.0, "broken")
    found = await read_metrics(site)
    assert found["sagepool_router_source_up", "file"] == 0
    assert found[("sagepool_router_table_version",)] == 0
    assert ("sagepool_router_table_timestamp_seconds",) not in found


async def test_the_admin_table_shows_what_is_routed_to_and_why_not(site: Site):
    site.load(ready(named_instance("a")), named_instance("b", drain=True))
    table = (await site.admin.get("/admin/table")).json()
    assert (table["version"], table["pool"], table["suspended"]) == (1, "rag", False)
    first, second = table["instances"]
    assert (first["name"], first["routable"], first["reason"]) == ("a", True, "")
    (backend,) = first["backends"]
    assert backend == {
        "url": "http://10.0.0.7:8000",
        "role": "llm",
        "state": "available",
        "in_flight": 0,
        "idle_connections": 0,
        "limit": 256,
        "capacity": 256,
        "latency_seconds": 0.0,
        "tokens_per_second": 0.0,
    }
    assert (second["routable"], second["reason"]) == (False, "spec.drain is set")
    models = {m["name"]: m for m in table["models"]}
    assert models["gpt-4o-mini"]["model"] == "qwen2.5-7b"
    assert models["gpt-4o-mini"]["instances"] == ["a"]
    assert models["bge-m3"]["absence"]


async def test_the_admin_port_lists_the_instances_that_requests_are_sent_to(site: Site):
    site.load(ready(named_instance("a")), named_instance("b"))
    answer = (await site.admin.get("/admin/routable")).json()
    assert answer == {"version": site.dispatcher.fleet.table.version, "instances": ["a"]}


async def test_the_admin_port_only_reads(site: Site):
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await site.admin.request(method, "/admin/table")
        assert answer.status_code == 405
    assert (await site.admin.get("/metrics")).status_code == 200
    assert (await site.admin.get("/health")).status_code == 200
    assert (await site.client.get("/admin/table")).status_code == 404


async def test_the_admin_port_says_what_each_group_is_wanted_for(site: Site):
    site.load(ready(named_instance("a", group="chat")))
    groups = (await site.admin.get("/admin/demand")).json()["groups"]
    assert [g["group"] for g in groups] == ["chat", "embed"]
    assert [(g["capacity"] > 0, g["in_flight"], g["queued_requests"]) for g in groups] == [
        (True, 0, 0),
        (False, 0, 0),
    ]
    assert len(groups[0]["first_bytes"]["counts"]) == len(groups[0]["first_bytes"]["bounds"]) + 1
