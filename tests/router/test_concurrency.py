"""How many LLM requests are in flight on an instance: found out from a simulated engine."""

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.scheduling.concurrency import AdaptiveLimit, SlowStart

TICK_S = 0.1
TICKS_PER_SAMPLE = 5


@dataclass
class Router:
    """Keeps as many in flight as the limit allows of what is offered to it."""

    offered: int = 100
    limit: AdaptiveLimit = field(default_factory=lambda: AdaptiveLimit(256))
    in_flight: int = 0


@dataclass
class Request:
    router: Router
    left_s: float


@dataclass
class Engine:
    """Runs the first `capacity` requests, lets the others wait, and tells how many."""

    capacity: int
    rng: random.Random = field(default_factory=lambda: random.Random(5))
    requests: list[Request] = field(default_factory=list)

    def serve(self, routers: list[Router], seconds: float) -> list[tuple[int, ...]]:
        """Go on for so long; the routers' limits after every sample."""
        limits = []
        for tick in range(round(seconds / TICK_S)):
            self._work()
            for router in routers:
                while router.in_flight < min(router.offered, router.limit.limit):
                    router.in_flight += 1
                    self.requests.append(Request(router, self.rng.uniform(0.2, 4.0)))
            if tick % TICKS_PER_SAMPLE == 0:
                running = min(self.capacity, len(self.requests))
                for router in routers:
                    router.limit.observe(running, len(self.requests) - running, router.in_flight)
                limits.append(tuple(router.limit.limit for router in routers))
        return limits

    def _work(self) -> None:
        for request in self.requests[: self.capacity]:
            request.left_s -= TICK_S
            if request.left_s <= 0:
                request.router.in_flight -= 1
        self.requests = [request for request in self.requests if request.left_s > 0]


def test_the_limit_becomes_what_the_engine_can_run_and_stays() -> None:
    engine, router = Engine(32), Router()
    engine.serve([router], 5)
    limits = [limit for (limit,) in engine.serve([router], 120)]
    assert min(limits) >= 29
    assert max(limits) <= 35


def test_two_routers_that_share_an_engine_get_half_each() -> None:
    engine, routers = Engine(32), [Router(), Router()]
    engine.serve(routers, 10)
    for shares in engine.serve(routers, 120):
        assert 29 <= sum(shares) <= 35
        assert all(13 <= share <= 20 for share in shares)


def test_a_router_that_comes_later_gets_half_too() -> None:
    engine, first, second = Engine(32), Router(), Router()
    engine.serve([first], 30)
    engine.serve([first, second], 90)
    for shares in engine.serve([first, second], 30):
        assert all(13 <= share <= 20 for share in shares)


def test_what_one_router_leaves_is_for_the_other() -> None:
    engine, modest, greedy = Engine(32), Router(offered=4), Router()
    engine.serve([modest, greedy], 60)
    for modest_limit, greedy_limit in engine.serve([modest, greedy], 60):
        assert modest_limit >= 3
        assert 25 <= greedy_limit <= 31


@pytest.mark.parametrize(("before", "after"), [(32, 64), (64, 32)])
def test_the_limit_follows_when_the_engine_can_run_another_number(before: int, after: int) -> None:
    engine, router = Engine(before), Router()
    engine.serve([router], 30)
    engine.capacity = after
    engine.serve([router], 10)
    for (limit,) in engine.serve([router], 60):
        assert limit == pytest.approx(after, rel=0.1)


def test_an_engine_that_runs_all_it_gets_has_the_ceiling() -> None:
    engine, router = Engine(1000), Router(offered=300)
    assert set(engine.serve([router], 20)) == {(256,)}


def test_one_sample_with_something_waiting_changes_nothing() -> None:
    limit = AdaptiveLimit(64)
    for _ in range(10):
        assert not limit.observe(60, 4, 64)
        assert not limit.observe(64, 0, 64)
    assert limit.limit == 64


def test_the_second_in_a_row_leaves_this_routers_share_of_what_runs() -> None:
    limit = AdaptiveLimit(64)
    limit.observe(30, 60, 45)
    assert limit.observe(30, 60, 45)
    assert limit.limit == 15


def test_a_limit_that_is_not_used_up_does_not_grow() -> None:
    limit = AdaptiveLimit(64)
    for _ in range(2):
        limit.observe(32, 32, 64)
    for _ in range(10):
        assert not limit.observe(28, 0, 28)
    assert limit.observe(29, 0, 29)
    assert limit.limit == 33


def test_a_router_that_gave_up_its_part_waits_for_the_others_requests_to_leave() -> None:
    limit = AdaptiveLimit(100)
    for waiting in (168, 168, 120, 70, 30):
        limit.observe(32, waiting, 100)
    assert limit.limit == 16
    assert limit.observe(32, 30, 8)
    assert limit.limit == 4


def test_an_engine_that_runs_nothing_is_left_one_request() -> None:
    limit = AdaptiveLimit(64)
    for _ in range(2):
        limit.observe(0, 64, 64)
    assert limit.limit == 1


def test_without_samples_the_limit_drifts_to_the_ceiling_and_does_not_jump() -> None:
    limit = AdaptiveLimit(64)
    for _ in range(2):
        limit.observe(16, 48, 64)
    limits = [limit.limit]
    while limit.forget():
        limits.append(limit.limit)
    assert (limits[0], limits[1], limits[-1]) == (16, 17, 64)
    assert all(new <= max(old + 1, old * 1.1) for old, new in pairwise(limits))


def test_a_sample_before_a_silence_does_not_count_with_one_after_it() -> None:
    limit = AdaptiveLimit(64)
    limit.observe(32, 32, 64)
    limit.forget()
    assert not limit.observe(32, 32, 64)


samples = st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))


@given(st.integers(1, 300), st.lists(st.none() | samples, max_size=60))
def test_the_limit_stays_between_one_and_the_ceiling_and_every_change_is_told(
    ceiling: int, steps: list[tuple[int, int, int] | None]
) -> None:
    limit = AdaptiveLimit(ceiling)
    for step in steps:
        before = limit.limit
        has_changed = limit.forget() if step is None else limit.observe(*step)
        assert has_changed == (limit.limit != before)
        assert 1 <= limit.limit <= ceiling


@pytest.mark.parametrize(
    ("limit", "age_s", "allowed"),
    [
        (60, 0.0, 2),
        (60, 0.9, 2),
        (60, 5.0, 10),
        (60, 29.9, 59),
        (60, 30.0, 60),
        (60, 1e6, 60),
        (1, 0.0, 1),
        (1, 29.0, 1),
    ],
)
def test_a_new_instance_is_given_more_as_it_gets_older(
    limit: int, age_s: float, allowed: int
) -> None:
    assert SlowStart(born_at=100.0).allowed(limit, 100.0 + age_s) == allowed


def pause_of(start: SlowStart, now: float) -> float:
    """For how long it is given nothing from now on."""
    return next(s / 100 for s in range(10_000) if start.allowed(9, now + s / 100))


def test_a_full_instance_is_given_nothing_for_a_pause_that_doubles_and_then_little() -> None:
    start: SlowStart | None = None
    now, pauses = 50.0, []
    for _ in range(7):
        start = SlowStart.after_refusal(start, now, 0.0)
        pauses.append(pause_of(start, now))
        now += pauses[-1]
        assert start.allowed(9, now) == SlowStart.AT_LEAST
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_calls_that_are_refused_together_count_once() -> None:
    start: SlowStart | None = None
    for _ in range(8):
        start = SlowStart.after_refusal(start, 50.0, 0.0)
    assert start is not None
    assert pause_of(start, 50.0) == 0.25


def test_a_pause_is_as_long_as_the_instance_asks_for_and_no_shorter_than_begun() -> None:
    asked = SlowStart.after_refusal(None, 50.0, 2.0)
    assert pause_of(asked, 50.0) == 2.0
    assert pause_of(SlowStart.after_refusal(asked, 51.0, 0.0), 51.0) == 1.0
    assert pause_of(SlowStart.after_refusal(asked, 51.0, 3.0), 51.0) == 3.0
    assert pause_of(SlowStart.after_refusal(asked, 60.0, 0.0), 60.0) == 0.5
