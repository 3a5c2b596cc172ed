"""How many embedding calls are in flight: found out from a simulated engine's latencies."""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.scheduling.batch_limit import BatchLimit, highest_line_below

FIXED_S = 0.02
TOKEN_S = 5e-5
NETWORK_S = 0.0025
EQUAL = (1000,)
SHORT_AND_LONG = (30, 1000)
"""Tokens of one text and of 32."""
MIXED = (10, 30, 200, 1000, 4000)
WARM_UP_CALLS = 600


@dataclass
class FixedLimit:
    """What the adaptive one is compared with."""

    limit: int

    def observe(
        self, latency_s: float, tokens: int, in_flight_at_start: int, *, is_full: bool = False
    ) -> bool:
        return False


@dataclass
class Run:
    """What came of a run after it had warmed up."""

    limits: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def part_within(self, low: int, high: int) -> float:
        return sum(low <= limit <= high for limit in self.limits) / len(self.limits)


def saturate(
    limit: BatchLimit | FixedLimit,
    lanes: int,
    sizes: Sequence[int],
    calls: int = 4000,
    *,
    noise: float = 0.1,
    slowness: Callable[[int], float] = lambda done: 1.0,
    is_full: Callable[[int], bool] = lambda done: False,
) -> Run:
    """Keep as many calls in flight as the limit allows.

    The engine works on `lanes` calls at a time, first come, first served. Its times vary by
    `noise` and what is said of the tokens by a fifth.
    """
    rng = random.Random(11)
    free = [0.0] * lanes
    under_way: list[tuple[float, float, int, int]] = []
    now = warm_at = 0.0
    run = Run()
    for done in range(calls):
        while len(under_way) < limit.limit:
            tokens = rng.choice(sizes)
            work_s = (FIXED_S + TOKEN_S * tokens) * rng.uniform(1 - noise, 1 + noise)
            end = max(heapq.heappop(free), now + NETWORK_S) + work_s * slowness(done)
            heapq.heappush(free, end)
            estimate = int(tokens * rng.uniform(0.8, 1.2))
            heapq.heappush(under_way, (end + NETWORK_S, now, estimate, len(under_way) + 1))
        now, sent_at, estimate, in_flight = heapq.heappop(under_way)
        limit.observe(now - sent_at, estimate, in_flight, is_full=is_full(done))
        if done == WARM_UP_CALLS:
            warm_at = now
        if done > WARM_UP_CALLS:
            run.limits.append(limit.limit)
    run.seconds = now - warm_at
    return run


@pytest.mark.parametrize("sizes", [EQUAL, SHORT_AND_LONG, MIXED])
@pytest.mark.parametrize(("lanes", "low", "high"), [(1, 2, 3), (2, 3, 4), (4, 4, 6)])
def test_the_limit_becomes_what_the_engine_works_on_and_a_short_queue(
    lanes: int, low: int, high: int, sizes: Sequence[int]
) -> None:
    run = saturate(BatchLimit(), lanes, sizes)
    assert run.part_within(low, high) > 0.97
    best_s = min(saturate(FixedLimit(n), lanes, sizes).seconds for n in range(1, 9))
    assert run.seconds < best_s / 0.95


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize(("lanes", "low", "high"), [(1, 2, 3), (2, 3, 4), (4, 4, 6)])
def test_it_does_so_however_much_times_vary(lanes: int, low: int, high: int, noise: float) -> None:
    assert saturate(BatchLimit(), lanes, MIXED, noise=noise).part_within(low, high) > 0.97


@pytest.mark.parametrize("sizes", [EQUAL, MIXED])
@pytest.mark.parametrize(("lanes", "low", "high"), [(1, 5, 7), (2, 6, 8), (4, 8, 8)])
def test_full_calls_may_wait_in_the_engine(
    lanes: int, low: int, high: int, sizes: Sequence[int]
) -> None:
    run = saturate(BatchLimit(), lanes, sizes, is_full=lambda done: True)
    assert run.part_within(low, high) > 0.9


def test_half_of_the_calls_have_to_be_full_for_that() -> None:
    run = saturate(BatchLimit(), 1, EQUAL, is_full=lambda done: done % 3 == 0)
    assert run.part_within(2, 3) > 0.97
    run = saturate(BatchLimit(), 1, EQUAL, is_full=lambda done: done % 3 != 0)
    assert run.part_within(5, 7) > 0.9


def test_the_limit_falls_again_when_calls_are_not_full_any_more() -> None:
    limit = BatchLimit()
    saturate(limit, 1, EQUAL, is_full=lambda done: True)
    assert limit.limit >= 5
    assert saturate(limit, 1, EQUAL).part_within(2, 3) > 0.97


@pytest.mark.parametrize("factor", [3.0, 1 / 3])
def test_an_engine_that_becomes_slower_or_faster_keeps_its_limit(factor: float) -> None:
    limit = BatchLimit()
    saturate(limit, 2, MIXED)
    run = saturate(limit, 2, MIXED, 6000, slowness=lambda done: factor)
    assert {3, 4} >= {n for n in run.limits[-1000:] if n != 1}


def test_a_saturated_engine_is_seen_empty_again_and_again() -> None:
    """Else its queue would be taken for its own time, and the limit would rise to the highest."""
    run = saturate(BatchLimit(), 1, EQUAL, 20_000)
    assert 0.005 < run.part_within(1, 1) < 0.03
    assert max(run.limits) <= 3


def test_calls_that_come_alone_are_enough_to_know_the_engine() -> None:
    limit = BatchLimit()
    for _ in range(2000):
        assert not limit.observe(0.07, 1000, 1)
    assert limit.limit == 2


def test_a_limit_that_is_not_used_up_does_not_grow() -> None:
    limit = BatchLimit(start=4)
    for _ in range(2000):
        limit.observe(0.07, 1000, 2)
        limit.observe(0.07, 1000, 1)
    assert limit.limit == 4


def test_an_engine_that_never_queues_gets_the_highest() -> None:
    run = saturate(BatchLimit(), 16, EQUAL, noise=0.0)
    assert run.part_within(8, 8) > 0.9


def test_a_look_at_the_empty_engine_ends_even_if_others_keep_it_busy() -> None:
    limit = BatchLimit()
    runs = 0
    longest = 0
    for _ in range(5000):
        limit.observe(0.2, 1000, 3)
        runs = runs + 1 if limit.limit == 1 else 0
        longest = max(longest, runs)
    assert 0 < longest < 50


calls = st.tuples(st.floats(0, 100), st.integers(0, 100_000), st.integers(1, 20), st.booleans())


@given(st.lists(calls, min_size=1, max_size=60), st.integers(1, 4), st.integers(0, 4))
def test_the_limit_stays_in_its_range_and_every_change_is_told(
    steps: list[tuple[float, int, int, bool]], low: int, width: int
) -> None:
    limit = BatchLimit(low, low + width, low)
    for latency_s, tokens, in_flight, is_full in steps * 20:
        before = limit.limit
        is_other = limit.observe(latency_s, tokens, in_flight, is_full=is_full)
        assert is_other == (limit.limit != before)
        assert low <= limit.limit <= low + width


points = st.lists(st.tuples(st.integers(0, 20_000), st.floats(0, 100)), min_size=1, max_size=30)


@given(points, st.integers(0, 20_000))
def test_the_line_is_below_every_call_and_no_call_costs_less_than_nothing(
    calls: list[tuple[int, float]], tokens: int
) -> None:
    fixed_s, token_s = highest_line_below(calls, tokens)
    assert min(fixed_s, token_s) >= 0
    assert all(fixed_s + token_s * t <= s + 1e-6 for t, s in calls if t)


@given(st.floats(0, 1), st.floats(0, 0.01), st.sets(st.integers(1, 20_000), min_size=2))
def test_calls_without_a_queue_say_what_a_call_costs(
    fixed_s: float, token_s: float, sizes: set[int]
) -> None:
    calls = [(t, fixed_s + token_s * t) for t in sizes]
    for tokens in sizes:
        found = highest_line_below(calls, tokens)
        assert found[0] + found[1] * tokens == pytest.approx(fixed_s + token_s * tokens, abs=1e-6)
