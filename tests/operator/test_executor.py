"""How the writes of a plan are made: which wait for which, and what a failure does to others."""

import asyncio
from typing import Any

import pytest

from kube_fake import FakeKube
from operator_waiting import until
from sagepool_kube.api import INSTANCES, Kind, Object, ObjectApi
from sagepool_kube.errors import Unavailable
from sagepool_operator.executor import Executor
from sagepool_operator.plan import ApplyStatus, Event, Plan


class Notes:
    def note(self, kind: Kind, obj: Object) -> None:
        pass


async def record(event: Event) -> None:
    raise AssertionError(f"nothing has turned: {event}")


def statuses(count: int) -> Plan:
    return Plan(
        statuses=tuple(
            ApplyStatus(
                INSTANCES,
                {
                    "metadata": {"name": f"engine-{number}", "namespace": "ns"},
                    "status": {"phase": "Ready"},
                },
            )
            for number in range(count)
        )
    )


class SlowApi:
    """A server that answers no apply before it is let."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.most = 0
        self.answered: list[str] = []
        self.go = asyncio.Event()

    async def apply(self, kind: Kind, namespace: str | None, obj: Object, **_: Any) -> Object:
        name = obj["metadata"]["name"]
        self.waiting.append(name)
        self.most = max(self.most, len(self.waiting))
        await self.go.wait()
        self.waiting.remove(name)
        self.answered.append(name)
        if name == "engine-0":
            raise Unavailable("connection reset")
        return obj

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not called")


def executor(api: ObjectApi) -> Executor:
    return Executor(api, Notes(), record)


async def test_the_engines_of_a_pool_are_written_together_but_not_all_at_once() -> None:
    api = SlowApi()
    writing = asyncio.create_task(executor(api).report(statuses(30)))
    await until(lambda: len(api.waiting) > 1)
    api.go.set()
    with pytest.raises(Unavailable):
        await writing
    assert 1 < api.most < 30
    # One that could not be written keeps none of the others from it.
    assert len(api.answered) == 30


async def test_nobody_is_left_writing_when_the_work_is_cut_short() -> None:
    api = SlowApi()
    writing = asyncio.create_task(executor(api).report(statuses(30)))
    await until(lambda: len(api.waiting) > 1)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    api.go.set()
    await asyncio.sleep(0)
    assert api.answered == []


async def test_what_has_been_deleted_meanwhile_is_no_failure() -> None:
    kube = FakeKube()
    await executor(kube).report(statuses(2))
    assert kube.all(INSTANCES) == []
