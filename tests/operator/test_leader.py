"""Several operators and one Lease: one works at a time, whatever fails, and soon another one."""

import asyncio
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kube_fake import FakeKube
from operator_candidates import (
    LEASE,
    PACE,
    Candidate,
    Line,
    candidate,
    in_made_up_time,
    overlaps,
    seconds_until,
)
from sagepool_kube.api import LEASES
from sagepool_kube.errors import Unavailable
from sagepool_operator.errors import OperatorError
from sagepool_operator.fence import FencedApi
from sagepool_operator.leader import Leader

AFTER_A_STOP_S = 1.0
AFTER_A_DEATH_S = 15.0


async def pair(kube: FakeKube) -> tuple[Candidate, Candidate]:
    """One that leads and one that waits."""
    first = candidate(kube, "first")
    await seconds_until(lambda: first.is_working)
    second = candidate(kube, "second")
    await asyncio.sleep(5)
    assert (first.is_working, second.is_working) == (True, False)
    return first, second


def lease(kube: FakeKube) -> dict[str, object]:
    found: dict[str, object] = kube.read(LEASES, LEASE.namespace, LEASE.name)["spec"]
    return found


def test_the_first_leads_and_the_second_waits_for_ever() -> None:
    async def story() -> None:
        kube = FakeKube()
        first, second = await pair(kube)
        await asyncio.sleep(300)
        assert len(first.spans) == 1
        assert second.spans == []
        assert lease(kube)["holderIdentity"] == "first"
        assert lease(kube)["leaseTransitions"] == 0
        await second.stop()
        await first.stop()

    in_made_up_time(story())


def test_a_clean_stop_hands_over_within_a_second() -> None:
    async def story() -> None:
        first, second = await pair(FakeKube())
        await first.stop()
        assert await seconds_until(lambda: second.is_working) < AFTER_A_STOP_S
        assert overlaps([first, second]) == []
        await second.stop()

    in_made_up_time(story())


def test_a_stop_in_the_middle_of_a_renewal_hands_over_as_fast() -> None:
    async def story() -> None:
        kube = FakeKube()
        first, second = await pair(kube)
        before = lease(kube)["renewTime"]
        first.line.loses_answers = True
        await seconds_until(lambda: lease(kube)["renewTime"] != before)
        first.line.loses_answers = False
        await first.stop()
        assert await seconds_until(lambda: second.is_working) < AFTER_A_STOP_S
        await second.stop()

    in_made_up_time(story())


def test_the_last_one_leaves_the_lease_free() -> None:
    async def story() -> None:
        kube = FakeKube()
        first = candidate(kube, "first")
        await seconds_until(lambda: first.is_working)
        await first.stop()
        assert lease(kube)["holderIdentity"] == ""

    in_made_up_time(story())


@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.0, 1.9])
def test_a_death_hands_over_within_15_seconds(after_s: float) -> None:
    async def story() -> None:
        first, second = await pair(FakeKube())
        await asyncio.sleep(after_s)
        await first.die()
        assert PACE.deadline_s < await seconds_until(lambda: second.is_working) < AFTER_A_DEATH_S
        await second.stop()

    in_made_up_time(story())


def test_nobody_works_while_the_api_server_hangs_and_somebody_soon_after() -> None:
    async def story() -> None:
        both = first, second = await pair(FakeKube())
        first.line.hangs = second.line.hangs = True
        gone_s = await seconds_until(lambda: not first.is_working)
        assert gone_s <= PACE.deadline_s
        await asyncio.sleep(20 - gone_s)
        assert not any(one.is_working for one in both)
        # What hung then hangs for ever, as on a broken connection: calls of their own time out.
        first.line.hangs = second.line.hangs = False
        await seconds_until(lambda: any(one.is_working for one in both), AFTER_A_DEATH_S)
        assert overlaps([*both]) == []
        await first.stop()
        await second.stop()

    in_made_up_time(story())


def test_a_leader_that_is_cut_off_stops_before_the_next_one_starts() -> None:
    async def story() -> None:
        first, second = await pair(FakeKube())
        first.line.hangs = True
        assert await seconds_until(lambda: second.is_working) < AFTER_A_DEATH_S
        first.line.hangs = False
        await asyncio.sleep(60)
        assert overlaps([first, second]) == []
        assert (first.is_working, second.is_working) == (False, True)
        await first.stop()
        await second.stop()

    in_made_up_time(story())


def test_a_renewal_whose_answer_is_lost_costs_nothing() -> None:
    async def story() -> None:
        kube = FakeKube()
        first = candidate(kube, "first")
        await seconds_until(lambda: first.is_working)
        before = lease(kube)["renewTime"]
        first.line.loses_answers = True
        await seconds_until(lambda: lease(kube)["renewTime"] != before)
        first.line.loses_answers = False
        await asyncio.sleep(30)
        assert len(first.spans) == 1
        await first.stop()

    in_made_up_time(story())


def test_a_lease_that_somebody_deletes_comes_back_and_nobody_else_gets_it() -> None:
    async def story() -> None:
        kube = FakeKube()
        first, second = await pair(kube)
        kube.remove(LEASES, LEASE.namespace, LEASE.name)
        await asyncio.sleep(30)
        assert lease(kube)["holderIdentity"] == "first"
        assert second.spans == []
        await second.stop()
        await first.stop()

    in_made_up_time(story())


def test_edits_of_the_lease_do_not_keep_a_dead_leader_in_it() -> None:
    async def story() -> None:
        kube = FakeKube()
        first, second = await pair(kube)
        await first.die()

        async def edit() -> None:
            for number in range(100):
                annotations = {"example.org/number": str(number)}
                kube.edit(
                    LEASES,
                    LEASE.namespace,
                    LEASE.name,
                    lambda obj: obj["metadata"].update(annotations=annotations),  # noqa: B023
                )
                await asyncio.sleep(1)

        editing = asyncio.create_task(edit())
        assert await seconds_until(lambda: second.is_working) < AFTER_A_DEATH_S
        editing.cancel()
        await second.stop()

    in_made_up_time(story())


@pytest.mark.parametrize("error", [None, ValueError("a bug")])
def test_work_that_ends_ends_the_leader_and_gives_the_lease_back(error: Exception | None) -> None:
    async def work() -> None:
        if error is not None:
            raise error

    async def story() -> None:
        kube = FakeKube()
        loop = asyncio.get_running_loop()
        leader = Leader(
            Line(kube),  # type: ignore[arg-type]  # what the leader calls of it
            LEASE,
            "only",
            PACE,
            clock=loop.time,
            now=lambda: datetime.now(UTC),
        )
        with pytest.raises(type(error) if error is not None else OperatorError):
            await leader.run(work)
        assert lease(kube)["holderIdentity"] == ""

    in_made_up_time(story())


async def test_who_may_not_write_can_read_and_nothing_of_its_writes_arrives() -> None:
    kube, may_write = FakeKube(), True
    api = FencedApi(kube, lambda: may_write)
    obj = {"metadata": {"name": "a", "namespace": "default"}}
    await api.create(LEASES, "default", obj)
    await api.apply(LEASES, "default", obj)
    may_write = False
    written = len(kube.writes)
    for write in (
        api.create(LEASES, "default", obj),
        api.apply(LEASES, "default", obj),
        api.delete(LEASES, "default", "a"),
    ):
        with pytest.raises(Unavailable, match="held back"):
            await write
    assert len(kube.writes) == written
    assert (await api.get(LEASES, "default", "a"))["metadata"]["name"] == "a"
    may_write = True
    await api.delete(LEASES, "default", "a")
    assert kube.all(LEASES) == []


class Troubles:
    """Candidates among whom something goes wrong at random."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)
        self._kube = FakeKube()
        self.alive: list[Candidate] = []
        self.all: list[Candidate] = []
        for _ in range(3):
            self._start()

    def _start(self) -> None:
        """One more, whose clock shows another time and runs a little faster or slower."""
        offset, rate = self._rng.uniform(-1e6, 1e6), self._rng.uniform(0.97, 1.03)
        one = candidate(self._kube, f"c{len(self.all)}", clock=lambda t: offset + rate * t)
        self.all.append(one)
        self.alive.append(one)

    async def go_on(self) -> None:
        """Let time pass, then let something happen."""
        await asyncio.sleep(self._rng.choice([0.005, 0.3, 1.7, 4.0, 9.0, 14.0]))
        one = self._rng.choice(self.alive)
        match self._rng.choice(["hang", "cut", "lose", "watches", "compact", "stop", "die"]):
            case "hang":
                one.line.hangs = not one.line.hangs
            case "cut":
                one.line.is_cut = not one.line.is_cut
            case "lose":
                one.line.loses_answers = not one.line.loses_answers
            case "watches":
                self._kube.break_watches()
            case "compact":
                self._kube.compact()
            case end:
                await (one.stop() if end == "stop" else one.die())
                self.alive.remove(one)
                self._start()

    def are_over(self) -> None:
        """Every line works again."""
        for one in self.alive:
            one.line.hangs = one.line.is_cut = one.line.loses_answers = False


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(5, 40))
def test_two_never_work_at_the_same_time_and_one_does_in_the_end(seed: int, steps: int) -> None:
    async def story() -> None:
        troubles = Troubles(seed)
        for _ in range(steps):
            await troubles.go_on()
        troubles.are_over()
        # A call that hangs may have to run into its limit first.
        limit_s = PACE.call_s + AFTER_A_DEATH_S
        await seconds_until(lambda: any(one.is_working for one in troubles.alive), limit_s)
        for one in troubles.alive:
            await one.stop()
        assert overlaps(troubles.all) == []

    in_made_up_time(story())
