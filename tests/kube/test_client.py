"""The client on the wire: what it sends, and what it makes of odd answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from kubernetes.aio.client.configuration import Configuration

from kube_stub import Answer, KubeStub, hangs, refuses, says, says_text, streams
from kube_world import CONFIG_MAPS, NAMESPACES, config_map, until
from sagepool_kube.api import DEPLOYMENTS, INSTANCES, JOBS, PODS, Kind, WatchEvent
from sagepool_kube.client import KubeClient
from sagepool_kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    Unavailable,
)

POD = {"metadata": {"name": "a", "namespace": "ns", "resourceVersion": "7"}}


@asynccontextmanager
async def client_of(
    *answers: Answer, timeout_s: float = 5.0
) -> AsyncIterator[tuple[KubeClient, KubeStub]]:
    async with KubeStub(*answers).running() as stub:
        configuration = Configuration(host=stub.url, connection_pool_maxsize=0)
        configuration.api_key["BearerToken"] = "bearer secret-token"
        async with KubeClient(configuration, timeout_s=timeout_s) as client:
            yield client, stub


async def collect(
    client: KubeClient, *, timeout_s: float = 300.0, inactivity_s: float = 90.0
) -> list[WatchEvent]:
    """The events of one watch to its end."""
    events = client.watch(
        PODS, "ns", resource_version="5", timeout_s=timeout_s, inactivity_s=inactivity_s
    )
    async with aclosing(events):
        return [event async for event in events]


def line(type_: str, obj: object) -> bytes:
    return json.dumps({"type": type_, "object": obj}).encode() + b"\n"


@pytest.mark.parametrize(
    ("code", "reason", "message", "error"),
    [
        (400, "BadRequest", "strict decoding error", Invalid),
        (401, "Unauthorized", "Unauthorized", Forbidden),
        (403, "Forbidden", "user x cannot get", Forbidden),
        (404, "NotFound", "pods a not found", NotFound),
        (409, "AlreadyExists", "pods a already exists", AlreadyExists),
        (409, "Conflict", "the object has been modified", Conflict),
        (410, "Expired", "too old", Gone),
        (413, "RequestEntityTooLarge", "limit is 3145728", Invalid),
        (422, "Invalid", "spec.replicas: must be positive", Invalid),
        (429, "TooManyRequests", "slow down", Unavailable),
        (500, "InternalError", "etcdserver: request timed out", Unavailable),
        (500, "", "failed to create typed patch object: .spec.typo: field not declared", Invalid),
        (503, "ServiceUnavailable", "apiserver is shutting down", Unavailable),
        (504, "Timeout", "timeout", Unavailable),
    ],
)
async def test_refusals_become_our_errors_with_call_object_and_the_servers_words(
    code: int, reason: str, message: str, error: type[KubeError]
) -> None:
    async with client_of(refuses(code, reason, message)) as (client, _):
        with pytest.raises(KubeError) as caught:
            await client.get(DEPLOYMENTS, "ns", "a")
    assert type(caught.value) is error
    assert str(caught.value) == f"get deployments.apps ns/a: {message} ({code})"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: c.get(NAMESPACES, None, "a"), "get namespaces a: no (404)"),
        (lambda c: c.list(PODS, None), "list pods in all namespaces: no (404)"),
        (lambda c: c.list(PODS, "ns"), "list pods in ns: no (404)"),
        (lambda c: c.list(NAMESPACES, None), "list namespaces: no (404)"),
        (lambda c: c.create(PODS, "ns", {"metadata": {"name": "a"}}), "create pods ns/a: no (404)"),
        (lambda c: c.delete(PODS, "ns", "a"), "delete pods ns/a: no (404)"),
        (
            lambda c: c.apply(INSTANCES, "ns", POD, subresource="status"),
            "apply inferenceinstances.sagepool.dev/status ns/a: no (404)",
        ),
    ],
)
async def test_every_message_names_the_call(call: Any, words: str) -> None:
    async with client_of(refuses(404, "NotFound", "no")) as (client, _):
        with pytest.raises(NotFound) as caught:
            await call(client)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("code", "header", "wait_s"),
    [
        (429, "2", 2.0),
        (503, "30", 30.0),
        (429, "", None),
        (429, "Fri, 27 Nov 2026 12:00:00 GMT", None),
        (500, "1", None),  # what it was asked for may have been done
    ],
)
async def test_a_server_that_throttles_says_how_long(
    code: int, header: str, wait_s: float | None
) -> None:
    async with client_of(refuses(code, "", "slow down", retry_after=header)) as (client, _):
        with pytest.raises(Unavailable) as caught:
            await client.get(PODS, "ns", "a")
        assert caught.value.retry_after_s == wait_s
        with pytest.raises(Unavailable) as caught:
            await collect(client)
        assert caught.value.retry_after_s == wait_s


async def test_a_proxys_page_in_place_of_an_answer_is_quoted_in_part() -> None:
    async with client_of(says_text("<html>bad gateway" + "x" * 5000, 502)) as (client, _):
        with pytest.raises(Unavailable, match="bad gateway") as caught:
            await client.get(PODS, "ns", "a")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("answer", [says_text("no json", 200), says([1])])
async def test_an_answer_that_is_no_object_counts_as_unavailable(answer: Answer) -> None:
    async with client_of(answer) as (client, _):
        with pytest.raises(Unavailable, match="JSON"):
            await client.get(PODS, "ns", "a")


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with KubeStub(says({})).running() as stub:
        url = stub.url
    async with KubeClient(Configuration(host=url)) as client:
        with pytest.raises(Unavailable, match="get pods ns/a"):
            await client.get(PODS, "ns", "a")


async def test_a_server_that_does_not_answer_is_unavailable_in_time() -> None:
    async with client_of(hangs(), timeout_s=0.1) as (client, _):
        with pytest.raises(Unavailable, match="get pods ns/a"):
            await client.get(PODS, "ns", "a")


async def test_an_answer_that_breaks_off_is_unavailable() -> None:
    async with client_of(streams(b'{"a":', then="reset")) as (client, _):
        with pytest.raises(Unavailable, match="get pods ns/a"):
            await client.get(PODS, "ns", "a")


async def test_requests_carry_token_and_accept_json() -> None:
    async with client_of(says(POD)) as (client, stub):
        await client.get(PODS, "ns", "a")
    [request] = stub.requests
    assert request.headers["authorization"] == "bearer secret-token"
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"] == "sagepool"
    assert request.path == "/api/v1/namespaces/ns/pods/a"


async def test_names_are_escaped_in_the_path() -> None:
    async with client_of(says(POD)) as (client, stub):
        await client.get(PODS, "ns", "a/../../b?c")
    [request] = stub.requests
    assert request.raw_path == "/api/v1/namespaces/ns/pods/a%2F..%2F..%2Fb%3Fc"


async def test_apply_sends_json_as_a_server_side_apply_of_our_field_manager() -> None:
    async with client_of(says(POD)) as (client, stub):
        await client.apply(DEPLOYMENTS, "ns", {"metadata": {"name": "a"}}, force=False)
    [request] = stub.requests
    assert (request.method, request.path) == ("PATCH", "/apis/apps/v1/namespaces/ns/deployments/a")
    assert request.content_type == "application/apply-patch+yaml"
    assert dict(request.query) == {
        "fieldManager": "sagepool",
        "fieldValidation": "Strict",
        "force": "false",
    }
    assert stub.bodies == [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}
    ]


async def test_without_a_name_all_objects_are_neither_read_nor_changed_nor_deleted() -> None:
    async with client_of(says({"items": []})) as (client, stub):
        with pytest.raises(Invalid, match=r"^get: the object has no name"):
            await client.get(PODS, "ns", "")
        with pytest.raises(Invalid, match=r"^patch: the object has no name"):
            await client.patch(PODS, "ns", "", [])
        with pytest.raises(Invalid, match=r"^delete: the object has no name"):
            await client.delete(PODS, "ns", "")
    assert stub.requests == []


async def test_an_apply_without_a_name_is_refused_before_it_is_sent() -> None:
    async with client_of(says(POD)) as (client, stub):
        with pytest.raises(Invalid, match=r"metadata\.name"):
            await client.apply(PODS, "ns", {"metadata": {}})
    assert stub.requests == []


async def test_create_is_strict_about_fields() -> None:
    async with client_of(says(POD, 201)) as (client, stub):
        await client.create(CONFIG_MAPS, "ns", config_map("a"))
    [request] = stub.requests
    assert (request.method, request.path) == ("POST", "/api/v1/namespaces/ns/configmaps")
    assert dict(request.query) == {"fieldManager": "sagepool", "fieldValidation": "Strict"}


@pytest.mark.parametrize(("kind", "policy"), [(PODS, "Background"), (JOBS, "Foreground")])
async def test_delete_guards_the_uid_and_lets_a_job_stay_as_long_as_its_pods(
    kind: Kind, policy: str
) -> None:
    async with client_of(says({"kind": "Status"})) as (client, stub):
        await client.delete(kind, "ns", "a", uid="u1")
    [body] = stub.bodies
    assert body["propagationPolicy"] == policy
    assert body["preconditions"] == {"uid": "u1"}


def page(names: list[str], token: str = "", version: str = "9") -> dict[str, Any]:
    meta = {"resourceVersion": version, **({"continue": token} if token else {})}
    return {"metadata": meta, "items": [{"metadata": {"name": name}} for name in names]}


async def test_a_list_follows_its_pages() -> None:
    answers = (says(page(["a", "b"], "t1")), says(page(["c"], "t2")), says(page([])))
    async with client_of(*answers) as (client, stub):
        found = await client.list(PODS, "ns", label_selector="x=y", field_selector="f=g")
    assert [item["metadata"]["name"] for item in found.items] == ["a", "b", "c"]
    assert found.resource_version == "9"
    assert [r.query.get("continue", "") for r in stub.requests] == ["", "t1", "t2"]
    assert {r.query["limit"] for r in stub.requests} == {"500"}
    assert {(r.query["labelSelector"], r.query["fieldSelector"]) for r in stub.requests} == {
        ("x=y", "f=g")
    }


async def test_a_list_whose_version_expires_between_pages_starts_again() -> None:
    gone = refuses(410, "Expired", "the provided continue parameter is too old")
    answers = (says(page(["a"], "t1")), gone, says(page(["a", "b"], version="12")))
    async with client_of(*answers) as (client, _):
        found = await client.list(PODS, "ns")
    assert [item["metadata"]["name"] for item in found.items] == ["a", "b"]
    assert found.resource_version == "12"


async def test_a_list_that_expires_every_time_gives_up() -> None:
    async with client_of(refuses(410, "Expired", "too old")) as (client, stub):
        with pytest.raises(Gone):
            await client.list(PODS, "ns")
    assert len(stub.requests) == 3


async def test_a_watch_asks_for_bookmarks_and_a_time_limit() -> None:
    async with client_of(streams()) as (client, stub):
        events = await collect(client, timeout_s=120.4)
    [request] = stub.requests
    assert dict(request.query) == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "5",
        "timeoutSeconds": "120",
    }
    assert [(e.type, e.object["metadata"]) for e in events] == [
        ("BOOKMARK", {"resourceVersion": "5"})
    ]


async def test_a_watch_reads_lines_however_the_network_cuts_them() -> None:
    both = line("ADDED", POD) + line("DELETED", POD)
    pieces = [both[i : i + 7] for i in range(0, len(both), 7)]
    async with client_of(streams(*pieces)) as (client, _):
        events = await collect(client)
    assert [e.type for e in events] == ["BOOKMARK", "ADDED", "DELETED"]
    assert events[2].object == POD


async def test_a_watch_takes_an_object_larger_than_any_buffer() -> None:
    large = {**POD, "data": "x" * (6 * 2**20)}
    async with client_of(streams(line("ADDED", large))) as (client, _):
        events = await collect(client)
    assert events[1].object == large


async def test_a_watch_drops_a_last_line_that_broke_off() -> None:
    async with client_of(streams(line("ADDED", POD) + b'{"type":"MODI')) as (client, _):
        events = await collect(client)
    assert [e.type for e in events] == ["BOOKMARK", "ADDED"]


@pytest.mark.parametrize(
    "answer",
    [
        refuses(410, "Expired", "too old resource version: 5 (100)"),
        streams(line("ERROR", {"kind": "Status", "code": 410, "message": "too old: 5 (100)"})),
    ],
)
async def test_a_watch_from_a_forgotten_version_is_gone(answer: Answer) -> None:
    async with client_of(answer) as (client, _):
        with pytest.raises(Gone, match="watch pods in ns: too old"):
            await collect(client)


async def test_a_watch_on_which_nothing_arrives_is_unavailable() -> None:
    async with client_of(streams(line("ADDED", POD), then="hang")) as (client, _):
        with pytest.raises(Unavailable, match="watch pods in ns"):
            await collect(client, inactivity_s=0.1)


async def test_a_watch_whose_connection_breaks_is_unavailable() -> None:
    async with client_of(streams(line("ADDED", POD), then="reset")) as (client, _):
        with pytest.raises(Unavailable, match="watch pods in ns"):
            await collect(client)


@pytest.mark.parametrize(
    "sent", [b"no json\n", b'{"type": "ADDED"}\n', b'{"type": "NEW", "object": {}}\n']
)
async def test_a_watch_that_makes_no_sense_is_unavailable(sent: bytes) -> None:
    async with client_of(streams(sent)) as (client, _):
        with pytest.raises(Unavailable, match="watch pods in ns"):
            await collect(client)


async def test_many_open_watches_do_not_stall_other_calls() -> None:
    async def serve(request: Any) -> Any:
        watch = "watch" in request.query
        return await (streams(then="hang") if watch else says(POD))(request)

    async with client_of(serve) as (client, _):
        watches = [client.watch(PODS, "ns", resource_version="5") for _ in range(150)]
        async with asyncio.timeout(20):
            await asyncio.gather(*(anext(watch) for watch in watches))
            assert await client.get(PODS, "ns", "a") == POD
        await asyncio.gather(*(watch.aclose() for watch in watches))


async def test_a_watch_that_its_reader_closes_closes_the_connection() -> None:
    async with client_of(streams(line("ADDED", POD), then="hang")) as (client, stub):
        async with aclosing(client.watch(PODS, "ns", resource_version="5")) as events:
            await anext(events)
            assert stub.requests[0].transport is not None
        await until(lambda: stub.requests[0].transport is None)
