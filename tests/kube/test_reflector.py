"""The reflector against the fake API server: time and jitter are the test's, no wait is real."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

import pytest

from kube_fake import FakeKube, Json
from kube_world import instance, until
from sagepool_kube.api import INSTANCES, SERVICES, Object
from sagepool_kube.errors import Forbidden, Gone, NotFound, Unavailable
from sagepool_kube.patience import MAX_WAIT_S
from sagepool_kube.reflector import Backoff, Reflector

LONGEST_WATCH_S = 360.0

Change: TypeAlias = tuple[str | None, str | None]


@dataclass
class Clock:
    """A clock that only the reflector's own waits move on."""

    now: float = 1000.0
    waits: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class Followed:
    """A running reflector and what it told."""

    kube: FakeKube
    clock: Clock = field(default_factory=Clock)
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reflector: Reflector[str] = Reflector(
            self.kube,
            INSTANCES,
            "team-a",
            project=_project,
            on_change=lambda old, new: self.changes.append((old, new)),
            field_selector="spec.poolRef=rag",
            clock=self.clock,
            sleep=self.clock.sleep,
            rng=Random(1),
        )

    @property
    def names(self) -> list[str]:
        """The names in the store."""
        return sorted(name for _, name in self.reflector.store)

    def verbs(self) -> list[str]:
        """The calls that the API server saw."""
        return [verb for verb, _ in self.kube.calls]


def _project(obj: Object) -> str | None:
    """Name and maxConcurrency; instances named hidden are left out."""
    name = obj["metadata"]["name"]
    return None if name == "hidden" else f"{name}:{obj['spec']['maxConcurrency']}"


def placed(kube: FakeKube, name: str, limit: int = 1) -> None:
    obj = instance(name)
    obj["metadata"]["namespace"] = "team-a"
    obj["spec"]["maxConcurrency"] = limit
    kube.put(INSTANCES, obj)


@asynccontextmanager
async def following(kube: FakeKube, *, synced: bool = True) -> AsyncIterator[Followed]:
    followed = Followed(kube)
    task = asyncio.create_task(followed.reflector.run())
    try:
        if synced:
            async with asyncio.timeout(5):
                await followed.reflector.synced.wait()
            await until(lambda: "watch" in followed.verbs())
        yield followed
        assert not task.done(), "run() must not end by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_first_list_fills_the_store_and_tells_every_object() -> None:
    kube = FakeKube()
    placed(kube, "a")
    placed(kube, "b", 2)
    async with following(kube) as followed:
        assert dict(followed.reflector.store) == {("team-a", "a"): "a:1", ("team-a", "b"): "b:2"}
        assert followed.changes == [(None, "a:1"), (None, "b:2")]


async def test_an_empty_list_is_synced_too() -> None:
    async with following(FakeKube()) as followed:
        assert len(followed.reflector.store) == 0


async def test_the_store_holds_the_whole_list_before_the_first_change_is_told() -> None:
    kube = FakeKube()
    sizes: list[int] = []
    for name in ("a", "b", "c"):
        placed(kube, name)
    reflector: Reflector[str] = Reflector(
        kube,
        INSTANCES,
        None,
        project=_project,
        on_change=lambda old, new: sizes.append(len(reflector.store)),
    )
    task = asyncio.create_task(reflector.run())
    await asyncio.wait_for(reflector.synced.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sizes == [3, 3, 3]


async def test_changes_are_followed_as_they_happen() -> None:
    kube = FakeKube()
    async with following(kube) as followed:
        placed(kube, "a")
        placed(kube, "a", 2)
        kube.remove(INSTANCES, "team-a", "a")
        await until(lambda: len(followed.changes) == 3)
        assert followed.changes == [(None, "a:1"), ("a:1", "a:2"), ("a:2", None)]
        assert followed.names == []
        assert followed.verbs() == ["list", "watch"]


async def test_objects_that_the_selector_or_the_projection_leaves_out_are_not_kept() -> None:
    kube = FakeKube()
    placed(kube, "hidden")
    async with following(kube) as followed:
        other = instance("other", "another-pool")
        other["metadata"]["namespace"] = "team-a"
        kube.put(INSTANCES, other)
        placed(kube, "hidden", 2)
        placed(kube, "a")
        await until(lambda: followed.names == ["a"])
        assert followed.changes == [(None, "a:1")]


async def test_an_object_that_the_projection_starts_to_leave_out_counts_as_deleted() -> None:
    kube = FakeKube()
    placed(kube, "a")
    keep = True
    seen: list[Change] = []
    reflector: Reflector[str] = Reflector(
        kube,
        INSTANCES,
        None,
        project=lambda obj: "kept" if keep else None,
        on_change=lambda old, new: seen.append((old, new)),
    )
    task = asyncio.create_task(reflector.run())
    await asyncio.wait_for(reflector.synced.wait(), 5)
    keep = False
    placed(kube, "a", 2)
    await until(lambda: seen == [(None, "kept"), ("kept", None)])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(reflector.store) == 0


async def test_a_forgotten_version_leads_to_a_list_that_tells_the_deletions_missed() -> None:
    kube = FakeKube()
    placed(kube, "stays")
    placed(kube, "goes")
    async with following(kube) as followed:
        with kube.down():
            kube.remove(INSTANCES, "team-a", "goes")
            placed(kube, "new")
            kube.compact()
        await until(lambda: followed.names == ["new", "stays"])
        assert followed.changes[2:] == [("goes:1", None), (None, "new:1")]


async def test_a_list_after_which_nothing_differs_tells_nothing() -> None:
    kube = FakeKube()
    placed(kube, "a")
    async with following(kube) as followed:
        kube.break_watches(Gone("too old (410)"))
        await until(lambda: followed.verbs().count("list") == 2)
        await until(lambda: followed.verbs()[-1] == "watch")
        assert followed.changes == [(None, "a:1")]
        assert followed.reflector.health.is_connected


async def test_an_object_made_anew_under_its_name_is_told_as_deletion_and_addition() -> None:
    kube = FakeKube()
    placed(kube, "a")
    async with following(kube) as followed:
        with kube.down():
            kube.remove(INSTANCES, "team-a", "a")
            placed(kube, "a", 2)
            kube.compact()
        await until(lambda: len(followed.changes) == 3)
        assert followed.changes[1:] == [("a:1", None), (None, "a:2")]


async def test_a_watch_that_the_server_ends_goes_on_without_a_list() -> None:
    kube = FakeKube()
    async with following(kube) as followed:
        followed.clock.now += LONGEST_WATCH_S
        kube.break_watches()
        placed(kube, "a")
        await until(lambda: followed.names == ["a"])
        assert followed.verbs() == ["list", "watch", "watch"]
        assert followed.clock.waits == []


def limit_everywhere(obj: Json) -> None:
    obj["spec"]["maxConcurrency"] = 7


async def test_objects_that_read_otherwise_when_their_kind_is_another_are_told() -> None:
    kube = FakeKube()
    placed(kube, "a")
    async with following(kube) as followed:
        kube.redefine(INSTANCES, "team-a", "a", limit_everywhere)
        kube.break_watches()
        await until(lambda: len(followed.verbs()) == 4)
        assert followed.changes == [(None, "a:1"), ("a:1", "a:7")]
        assert followed.verbs() == ["list", "watch", "list", "watch"]


async def test_a_kind_that_nobody_can_redefine_is_not_listed_again() -> None:
    kube = FakeKube()
    reflector = Reflector(kube, SERVICES, None, project=lambda obj: obj)
    task = asyncio.create_task(reflector.run())
    await reflector.synced.wait()
    await until(lambda: len(kube.calls) == 2)
    kube.break_watches()
    await until(lambda: len(kube.calls) == 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [verb for verb, _ in kube.calls] == ["list", "watch", "watch"]


async def test_a_watch_that_breaks_goes_on_from_the_last_version() -> None:
    kube = FakeKube()
    async with following(kube) as followed:
        placed(kube, "a")
        await until(lambda: followed.names == ["a"])
        kube.break_watches(Unavailable("nothing arrived for 90 s"))
        placed(kube, "b")
        await until(lambda: followed.names == ["a", "b"])
        assert followed.verbs() == ["list", "watch", "watch"]
        assert followed.changes == [(None, "a:1"), (None, "b:1")]


async def test_a_bookmark_moves_the_version_on_so_that_compaction_costs_no_list() -> None:
    kube = FakeKube()
    async with following(kube) as followed:
        kube.bookmark()
        await until(lambda: kube.delivered == kube.version)
        kube.compact()
        kube.break_watches(Unavailable("reset"))
        placed(kube, "a")
        await until(lambda: followed.names == ["a"])
        assert followed.verbs() == ["list", "watch", "watch"]


async def test_while_the_server_is_away_the_store_keeps_its_last_state_and_says_so() -> None:
    kube = FakeKube()
    placed(kube, "a")
    async with following(kube) as followed:
        connected = followed.reflector.health
        assert connected.is_connected
        with kube.down(Unavailable("connection refused")):
            await until(lambda: len(followed.clock.waits) >= 3)
            away = followed.reflector.health
            assert not away.is_connected
            assert "connection refused" in away.error
            assert connected.since <= away.since < followed.clock.now
            assert followed.names == ["a"]
        await until(lambda: followed.reflector.health.is_connected)
        assert followed.reflector.health.since > away.since
        assert followed.changes == [(None, "a:1")]


async def test_a_server_that_is_away_at_the_start_is_waited_for() -> None:
    kube = FakeKube()
    placed(kube, "a")
    with ExitStack() as outage:
        outage.enter_context(kube.down())
        async with following(kube, synced=False) as followed:
            await until(lambda: len(followed.clock.waits) >= 2)
            assert not followed.reflector.synced.is_set()
            assert not followed.reflector.health.is_connected
            outage.close()
            await asyncio.wait_for(followed.reflector.synced.wait(), 5)
            assert followed.names == ["a"]


async def test_waits_grow_from_short_to_their_limit() -> None:
    kube = FakeKube()
    async with following(kube) as followed:
        with kube.down():
            await until(lambda: len(followed.clock.waits) >= 12)
        waits = followed.clock.waits
        assert 0.1 <= waits[0] <= 0.2
        assert all(2.5 <= wait <= 5.0 for wait in waits[8:])


async def test_a_server_that_throttles_is_given_the_time_that_it_asks_for() -> None:
    kube = FakeKube()
    kube.fail_next("list", Unavailable("slow down", retry_after_s=7.0))
    kube.fail_next("list", Unavailable("slow down", retry_after_s=3600.0))
    async with following(kube) as followed:
        assert followed.clock.waits == [7.0, MAX_WAIT_S]


async def test_after_a_watch_that_worked_the_waits_start_short_again() -> None:
    kube = FakeKube()
    async with following(kube) as followed:
        with kube.down():
            await until(lambda: len(followed.clock.waits) >= 8)
        placed(kube, "a")
        await until(lambda: followed.names == ["a"])
        before = len(followed.clock.waits)
        with kube.down():
            await until(lambda: len(followed.clock.waits) > before)
        assert followed.clock.waits[before] <= 0.2


async def test_watches_that_are_cut_off_at_once_make_no_busy_loop() -> None:
    kube = FakeKube()
    async with following(kube) as followed:
        for _ in range(6):
            count = followed.verbs().count("watch")
            kube.break_watches()
            await until(lambda: followed.verbs().count("watch") > count)  # noqa: B023
        assert len(followed.clock.waits) >= 4
        assert followed.clock.waits[-1] > followed.clock.waits[0]


async def test_a_server_that_forgets_every_version_makes_no_busy_loop() -> None:
    kube = FakeKube()
    async with following(kube) as followed:
        for _ in range(6):
            count = followed.verbs().count("list")
            kube.break_watches(Gone("too old (410)"))
            await until(lambda: followed.verbs().count("list") > count)  # noqa: B023
            await until(lambda: followed.verbs()[-1] == "watch")
        assert len(followed.clock.waits) >= 4


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (Forbidden("list inferenceinstances: user x cannot list (403)"), "grant"),
        (NotFound("list inferenceinstances: no such resource (404)"), "CustomResourceDefinition"),
    ],
)
async def test_what_a_person_must_repair_is_logged_once_with_advice_and_retried_slowly(
    caplog: pytest.LogCaptureFixture, error: Forbidden | NotFound, advice: str
) -> None:
    caplog.set_level(logging.INFO, "sagepool_kube")
    kube = FakeKube()
    with kube.down(error):
        async with following(kube, synced=False) as followed:
            await until(lambda: len(followed.clock.waits) >= 9)
            assert followed.clock.waits[0] >= 0.5
            assert followed.clock.waits[-1] >= 15
    [record] = caplog.records
    assert advice in record.getMessage()
    assert vars(record)["error"] == str(error)
    assert vars(record)["resource"] == "inferenceinstances.sagepool.dev"


async def test_loss_and_return_of_the_server_are_logged_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sagepool_kube")
    kube = FakeKube()
    async with following(kube) as followed:
        with kube.down():
            await until(lambda: len(followed.clock.waits) >= 4)
        await until(lambda: followed.reflector.health.is_connected)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO"]


def test_the_backoff_doubles_to_its_limit_and_jitters_by_half() -> None:
    backoff = Backoff(first_s=1.0, limit_s=8.0)
    low = [backoff.delay_s(n, Random(7)) for n in (1, 2, 3, 4, 5, 10_000)]
    whole = [1, 2, 4, 8, 8, 8]
    assert all(w / 2 <= delay <= w for delay, w in zip(low, whole, strict=True))
