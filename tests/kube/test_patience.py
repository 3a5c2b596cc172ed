"""Waiting as an API server that throttles asks."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from kube_fake import FakeKube
from kube_world import instance
from sagepool_kube.api import INSTANCES, ObjectApi
from sagepool_kube.errors import Conflict, Unavailable
from sagepool_kube.patience import MAX_WAIT_S, PatientApi
from sagepool_operator.fence import FencedApi

Call: TypeAlias = Callable[[ObjectApi], Awaitable[Any]]


def throttled(verb: str, *asked_s: float | None) -> FakeKube:
    """A server that answers calls of the verb so first, and has an instance."""
    kube = FakeKube()
    kube.put(INSTANCES, one())
    for wait_s in asked_s:
        kube.fail_next(verb, Unavailable("slow down", retry_after_s=wait_s))
    return kube


class Pauses:
    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


def one(name: str = "a") -> dict[str, Any]:
    return {**instance(name), "metadata": {"name": name, "namespace": "ns"}}


CALLS: dict[str, Call] = {
    "get": lambda api: api.get(INSTANCES, "ns", "a"),
    "create": lambda api: api.create(INSTANCES, "ns", one("b")),
    "apply": lambda api: api.apply(INSTANCES, "ns", one()),
    "delete": lambda api: api.delete(INSTANCES, "ns", "a"),
}


@pytest.mark.parametrize("verb", CALLS)
async def test_each_call_is_made_again_after_the_wait_that_was_asked_for(verb: str) -> None:
    pauses = Pauses()
    await CALLS[verb](PatientApi(throttled(verb, 1.0, 2.0), sleep=pauses))
    assert pauses.waits == [1.0, 2.0]


async def test_what_is_asked_of_the_server_arrives_whole() -> None:
    kube = throttled("apply")
    api = PatientApi(kube)
    await api.apply(INSTANCES, "ns", {**one(), "status": {"phase": "Ready"}}, subresource="status")
    assert kube.read(INSTANCES, "ns", "a")["status"] == {"phase": "Ready"}
    await api.apply(INSTANCES, "ns", {**one(), "metadata": {"name": "a", "labels": {"x": "1"}}})
    other = {**one(), "metadata": {"name": "a", "labels": {"x": "2"}}}
    with pytest.raises(Conflict):
        await api.apply(INSTANCES, "ns", other, field_manager="other", force=False)
    with pytest.raises(Conflict):
        await api.delete(INSTANCES, "ns", "a", uid="of another one")


@pytest.mark.parametrize("asked_s", [None, MAX_WAIT_S + 1])
async def test_who_says_no_time_or_too_long_a_one_is_not_waited_for(asked_s: float | None) -> None:
    pauses = Pauses()
    with pytest.raises(Unavailable):
        await CALLS["get"](PatientApi(throttled("get", asked_s), sleep=pauses))
    assert pauses.waits == []


async def test_a_server_that_throttles_without_an_end_is_given_up() -> None:
    pauses = Pauses()
    with pytest.raises(Unavailable):
        await CALLS["get"](PatientApi(throttled("get", *[1.0] * 100), sleep=pauses))
    assert sum(pauses.waits) == MAX_WAIT_S


async def test_no_time_at_all_makes_no_busy_loop() -> None:
    pauses = Pauses()
    await CALLS["get"](PatientApi(throttled("get", 0.0), sleep=pauses))
    assert pauses.waits[0] > 0


async def test_who_may_not_write_any_more_after_a_wait_is_held_back() -> None:
    kube = throttled("apply", 1.0)
    leads = True

    async def lose_the_lead(seconds: float) -> None:
        nonlocal leads
        leads = False

    api = PatientApi(FencedApi(kube, lambda: leads), sleep=lose_the_lead)
    with pytest.raises(Unavailable, match="held back"):
        await CALLS["apply"](api)
