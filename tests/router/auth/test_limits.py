"""Buckets: what they let through in any span, and that the told wait is right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.auth.limits import Bucket, KeyLimits, resized

STEPS = st.lists(
    st.tuples(st.floats(0, 40), st.integers(1, 30), st.integers(-10, 10)), min_size=1, max_size=60
)
"""Pause in seconds, what is asked for, and by how much the estimate was wrong."""


@given(steps=STEPS, per_minute=st.floats(0.5, 200), begin=st.floats(0, 1e7))
def test_no_span_has_more_than_the_burst_and_the_refill(
    steps: list[tuple[float, int, int]], per_minute: float, begin: float
) -> None:
    bucket, now = Bucket(per_minute), begin
    taken: list[tuple[float, int]] = []
    for pause, cost, _ in steps:
        now += pause
        if not bucket.wait_s(cost, now):
            bucket.take(cost, now)
            taken.append((now, cost))
    burst = max(per_minute, *(cost for _, cost, _ in steps))
    for first, (start, _) in enumerate(taken):
        total = 0
        for moment, cost in taken[first:]:
            total += cost
            assert total <= burst + per_minute * (moment - start) / 60 + 1e-4


@given(
    pauses=st.lists(st.floats(0, 5), min_size=1, max_size=300),
    per_minute=st.integers(1, 60),
)
def test_no_minute_has_more_than_twice_the_limit(pauses: list[float], per_minute: int) -> None:
    bucket, now = Bucket(per_minute), 0.0
    taken: list[float] = []
    for pause in pauses:
        now += pause
        if not bucket.wait_s(1, now):
            bucket.take(1, now)
            taken.append(now)
    assert all(
        sum(start <= moment <= start + 60 for moment in taken) <= 2 * per_minute for start in taken
    )


@given(steps=STEPS, per_minute=st.floats(0.5, 200), begin=st.floats(0, 1e7))
def test_whoever_waits_as_told_is_let_in_and_not_much_sooner(
    steps: list[tuple[float, int, int]], per_minute: float, begin: float
) -> None:
    bucket, now = Bucket(per_minute), begin
    for pause, cost, correction in steps:
        now += pause
        wait_s = bucket.wait_s(cost, now)
        if wait_s > 1e-4:
            assert bucket.wait_s(cost, now + wait_s - 1e-4) > 0
        now += wait_s
        assert bucket.wait_s(cost, now) == 0
        bucket.take(cost, now)
        bucket.take(correction, now)


def test_a_full_bucket_gives_a_whole_minute_at_once_and_then_one_by_one() -> None:
    bucket = Bucket(6)
    for left in (5, 4, 3, 2, 1, 0):
        assert bucket.wait_s(1, 100.0) == 0
        bucket.take(1, 100.0)
        assert bucket.remaining(100.0) == left
    assert bucket.wait_s(1, 100.0) == pytest.approx(10, abs=1e-5)
    assert bucket.wait_s(1, 107.5) == pytest.approx(2.5, abs=1e-5)
    assert bucket.reset_s(107.5) == pytest.approx(52.5)
    assert bucket.remaining(110.0) == 1


def test_a_cost_above_a_whole_minute_passes_when_the_bucket_is_full_and_is_paid_off() -> None:
    bucket = Bucket(100)
    bucket.take(1, 0.0)
    assert bucket.wait_s(300, 0.0) == pytest.approx(0.6, abs=1e-5)
    assert bucket.wait_s(300, 1.0) == 0
    bucket.take(300, 1.0)
    assert bucket.remaining(1.0) == 0
    assert bucket.wait_s(1, 1.0) == pytest.approx(120.6, abs=1e-5)


def test_an_idle_bucket_does_not_forgive_what_was_estimated_too_low() -> None:
    bucket = Bucket(60)
    bucket.take(1, 0.0)
    bucket.take(90, 600.0)
    assert bucket.wait_s(1, 600.0) == pytest.approx(31, abs=1e-5)


def test_what_is_given_back_fills_the_bucket_and_no_more() -> None:
    bucket = Bucket(60)
    bucket.take(40, 0.0)
    bucket.take(-30, 0.0)
    assert bucket.remaining(0.0) == 50
    bucket.take(-100, 0.0)
    assert bucket.remaining(0.0) == 60


@pytest.mark.parametrize(
    ("per_minute", "left", "wait_s"), [(600, 560, 0), (20, 0, 63), (60, 20, 0)]
)
def test_what_was_used_stays_used_under_another_limit(
    per_minute: int, left: int, wait_s: float
) -> None:
    bucket = Bucket(60)
    bucket.take(40, 0.0)
    after = resized(bucket, per_minute, 0.0)
    assert after is bucket
    assert after.remaining(0.0) == left
    assert after.wait_s(1, 0.0) == pytest.approx(wait_s, abs=1e-5)


def test_a_limit_can_come_and_go() -> None:
    assert resized(Bucket(60), None, 0.0) is None
    made = resized(None, 7, 0.0)
    assert made is not None
    assert made.remaining(0.0) == 7


@pytest.mark.parametrize(
    ("routers", "shared"),
    [
        (1, KeyLimits(600, 9000, 98)),
        (3, KeyLimits(200, 3000, 32)),
        (49, KeyLimits(600 / 49, 9000 / 49, 2)),
        (1000, KeyLimits(0.6, 9, 1)),
    ],
)
def test_several_routers_divide_the_limits_and_each_keeps_one_at_a_time(
    routers: int, shared: KeyLimits
) -> None:
    own = KeyLimits(600, 9000, 98).shared(1 / routers)
    assert own.max_concurrency == shared.max_concurrency
    assert own.requests_per_minute == pytest.approx(shared.requests_per_minute)
    assert own.tokens_per_minute == pytest.approx(shared.tokens_per_minute)


def test_no_limits_are_no_limits_for_many_routers_either() -> None:
    assert KeyLimits().shared(0.1) == KeyLimits()
