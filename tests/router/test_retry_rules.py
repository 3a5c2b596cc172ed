"""The budget of retries and what a status says about trying elsewhere."""

import pytest

from sagepool_crds.pool import EngineType
from sagepool_router.retries import RetryBudget, allows_retry, is_retryable, read_retry_after


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def drained(clock: Clock) -> RetryBudget:
    budget = RetryBudget(clock)
    while budget.withdraw():
        pass
    return budget


def count(budget: RetryBudget) -> int:
    return sum(budget.withdraw() for _ in range(1000))


def test_a_new_budget_is_deep_enough_for_what_one_engine_takes_with_it() -> None:
    assert count(RetryBudget(Clock())) == 100


def test_every_ten_requests_pay_for_one_retry() -> None:
    budget = drained(Clock())
    for _ in range(205):
        budget.requests += 1
    assert count(budget) == 20


def test_three_retries_come_back_every_second() -> None:
    clock = Clock()
    budget = drained(clock)
    clock.now = 4.0
    assert count(budget) == 12


def test_the_budget_does_not_grow_without_end() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    for _ in range(100_000):
        budget.requests += 1
    clock.now = 1e6
    assert count(budget) <= 101


@pytest.mark.parametrize(
    ("engine", "retryable"),
    [
        ("vllm", {500, 502, 503, 504}),
        ("simulator", {500, 502, 503, 504}),
        ("tei", {424, 429, 502, 503, 504}),
    ],
)
def test_each_engine_says_in_its_own_way_that_another_may_do_better(
    engine: EngineType, retryable: set[int]
) -> None:
    assert {status for status in range(100, 600) if is_retryable(engine, status)} == retryable


def test_one_retry_is_allowed_and_two_after_failed_connects() -> None:
    assert [allows_retry("reset", n) for n in range(3)] == [True, False, False]
    assert [allows_retry("connect", n) for n in range(4)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ([], 0.0),
        ([b"content-type: text/plain\r\n", b"retry-after: 2\r\n"], 2.0),
        ([b"retry-after: 0\r\n"], 0.0),
        ([b"retry-after: 3600\r\n"], 60.0),
        ([b"retry-after: -1\r\n"], 0.0),
        ([b"retry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\n"], 0.0),
        ([b"retry-after-ms: 5\r\n"], 0.0),
    ],
)
def test_an_engine_says_for_how_long_it_wants_to_be_left_alone(
    fields: list[bytes], seconds: float
) -> None:
    assert read_retry_after(fields) == seconds
