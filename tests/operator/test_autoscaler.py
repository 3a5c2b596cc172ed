"""The autoscaler between two reconciles: whom it asks, what it decides, whom it wakes."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from engine_answers import PlayedEngines
from operator_waiting import until
from sagepool_crds.meta import PoolKey
from sagepool_crds.scaling import Scaling
from sagepool_operator.autoscaling.autoscaler import Autoscaler
from sagepool_operator.autoscaling.scene import ScaledGroup, Scene
from sagepool_operator.router_pods import RouterPod

KEY = PoolKey("default", "rag")
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ROUTERS = (
    RouterPod("router-1", "uid-1", "http://10.0.0.1:9090"),
    RouterPod("router-2", "uid-2", "http://10.0.0.2:9090"),
)


def scene(wanted: int, *, routers: tuple[RouterPod, ...] = ROUTERS, **scaling: Any) -> Scene:
    """A pool with one group of that many engines, all of them warm."""
    spec = {"maxReplicas": 10, "target": {"inFlight": 10}, **scaling}
    since = (START - timedelta(hours=1),) * wanted
    return Scene(routers, (ScaledGroup("chat", Scaling.model_validate(spec), wanted, since),))


def report(**fields: Any) -> dict[str, Any]:
    """What a router answers."""
    group = {
        "group": "chat",
        "in_flight": 0,
        "capacity": 0,
        "queued_requests": 0,
        "queued_texts": 0,
        "idle_seconds": 0.0,
        "unmet_seconds": None,
        "first_bytes": {"bounds": [0.5, 1.0], "counts": [0, 0, 0]},
    }
    return {"groups": [{**group, **fields}], "of_a_later_version": True}


@dataclass
class Site:
    """An autoscaler whose routers and time a test plays."""

    answers: dict[str, Any] = field(default_factory=dict)
    """By host; an exception is raised, other than a mapping is sent as it is."""
    woken: list[PoolKey] = field(default_factory=list)
    time_s: float = 0.0
    looks: int = 0
    """Looks that have ended."""
    _turn: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.scaler = Autoscaler(
            PlayedEngines(self._answer),
            self.woken.append,
            now=lambda: START + timedelta(seconds=self.time_s),
            clock=lambda: self.time_s,
            sleep=self._sleep,
        )

    async def look(self, *, later_s: float = 1.0) -> None:
        """Let time pass and the autoscaler look once more."""
        self.time_s += later_s
        before = self.looks
        self._turn.set()
        await until(lambda: self.looks > before)

    async def follow(self, wanted: Scene) -> None:
        """Show it the pool for the first time."""
        self.scaler.follow(KEY, wanted)
        await until(lambda: self.looks > 0)

    def decided(self) -> int | None:
        decision = self.scaler.decisions(KEY).get("chat")
        return decision.replicas if decision is not None else None

    def say(self, host: str = "10.0.0.1", **fields: Any) -> None:
        self.answers[host] = report(**fields)

    async def _sleep(self, _: float) -> None:
        self.looks += 1
        await self._turn.wait()
        self._turn.clear()

    def _answer(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/admin/demand"
        answer = self.answers.get(request.url.host, report())
        if isinstance(answer, Exception):
            raise answer
        body = answer if isinstance(answer, str) else json.dumps(answer)
        return httpx.Response(200, text=body)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found = Site()
    yield found
    await found.scaler.close()


async def test_what_all_routers_have_together_decides(site: Site) -> None:
    site.say("10.0.0.1", in_flight=18)
    site.say("10.0.0.2", in_flight=8, queued_requests=5)
    await site.follow(scene(1))
    assert site.decided() == 4
    assert site.woken == [KEY]


async def test_a_pool_is_woken_once_for_a_decision_and_not_at_all_without(site: Site) -> None:
    site.say(in_flight=10)
    await site.follow(scene(1))
    assert (site.decided(), site.woken) == (None, [])
    site.say(in_flight=30)
    for _ in range(3):
        await site.look()
    assert (site.decided(), site.woken) == (3, [KEY])
    site.say(in_flight=50)
    await site.look()
    assert (site.decided(), site.woken) == (5, [KEY, KEY])


async def test_a_decision_that_is_carried_out_is_none_any_more(site: Site) -> None:
    site.say(in_flight=30)
    await site.follow(scene(1))
    site.scaler.follow(KEY, scene(3))
    assert site.decided() is None


async def test_a_decision_whose_cause_has_passed_is_dropped(site: Site) -> None:
    site.say(in_flight=30)
    await site.follow(scene(1))
    site.say(in_flight=10)
    await site.look(later_s=301)
    assert site.decided() is None


@pytest.mark.parametrize(
    "answer", [httpx.ConnectError("refused"), "no json", {"groups": [{"group": "chat"}]}]
)
async def test_nothing_goes_while_a_router_is_silent_but_more_comes(
    site: Site, answer: object
) -> None:
    site.answers["10.0.0.2"] = answer
    await site.follow(scene(3, scaleDownAfterSeconds=10))
    for _ in range(5):
        await site.look(later_s=20)
    assert site.decided() is None
    site.say(in_flight=50)
    await site.look()
    assert site.decided() == 5
    site.answers.pop("10.0.0.2")
    site.say()
    await site.look(later_s=20)
    await site.look(later_s=20)
    assert site.decided() == 1


async def test_without_routers_everything_stays(site: Site) -> None:
    await site.follow(scene(3, routers=(), scaleDownAfterSeconds=1))
    await site.look(later_s=100)
    assert site.decided() is None


async def test_an_idle_group_goes_to_zero_when_all_routers_say_so(site: Site) -> None:
    zero = {"minReplicas": 0, "idleToZeroSeconds": 60}
    site.say("10.0.0.1", idle_seconds=100.0)
    site.say("10.0.0.2", idle_seconds=59.0)
    await site.follow(scene(1, **zero))
    assert site.decided() is None
    site.say("10.0.0.2", idle_seconds=60.0)
    await site.look()
    assert site.decided() == 0
    site.scaler.follow(KEY, scene(0, **zero))
    await site.look()
    assert site.decided() is None
    site.say("10.0.0.2", idle_seconds=0.0, unmet_seconds=0.0, queued_requests=1)
    await site.look()
    assert (site.decided(), site.woken) == (1, [KEY, KEY])


async def test_late_first_tokens_of_the_last_while_count_and_older_ones_do_not(
    site: Site,
) -> None:
    def say(fast: int, slow: int) -> None:
        counts = {"bounds": [0.5, 1.0], "counts": [fast, 0, slow]}
        site.say("10.0.0.1", in_flight=5, capacity=5, first_bytes=counts)

    say(0, 1000)  # before this operator came
    await site.follow(scene(2, target={"ttftMs": 500}))
    assert site.decided() is None
    say(100, 1000)
    await site.look()
    assert site.decided() is None
    say(100, 1100)
    await site.look()
    assert site.decided() == 4


async def test_engines_that_have_just_come_up_are_given_time(site: Site) -> None:
    now = scene(2, target={"queuedRequests": 5})
    (group,) = now.groups
    since = (group.ready_since[0], START)
    site.say(queued_requests=5)
    await site.follow(replace(now, groups=(replace(group, ready_since=since),)))
    assert site.decided() is None
    await site.look(later_s=31)
    assert site.decided() == 3


async def test_a_pool_that_is_not_followed_any_more_is_not_asked(site: Site) -> None:
    await site.follow(scene(1))
    site.scaler.follow(KEY, None)
    assert site.scaler.decisions(KEY) == {}
    await site.scaler.close()
    assert site.looks == 1


async def test_a_router_that_stays_silent_is_told_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.answers["10.0.0.2"] = httpx.ConnectError("refused")
    await site.follow(scene(1))
    for _ in range(8):
        await site.look()
    assert caplog.messages == []
    for _ in range(10):
        await site.look()
    assert caplog.messages == ["routers do not report: nothing is scaled down until they do"]
    assert [record.__dict__["routers"] for record in caplog.records] == [["http://10.0.0.2:9090"]]
