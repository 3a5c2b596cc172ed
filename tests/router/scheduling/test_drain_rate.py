"""When those who are refused are told to come back."""

import pytest

from sagepool_router.scheduling.drain_rate import MAX_S, MIN_S, UNKNOWN_S, DrainRate


def draining(per_second: int, seconds: int = 20) -> DrainRate:
    rate = DrainRate()
    for tick in range(per_second * seconds):
        rate.started(tick / per_second)
    return rate


@pytest.mark.parametrize("per_second", [1, 10, 250])
def test_the_rate_is_that_of_the_last_ten_seconds(per_second: int) -> None:
    assert draining(per_second).per_second(20.0) == pytest.approx(per_second, rel=0.12)


def test_a_burst_after_idleness_is_measured_by_itself() -> None:
    rate = DrainRate()
    rate.started(0.0)
    for number in range(100):
        rate.started(60.0 + number / 200)
    assert rate.per_second(60.5) == pytest.approx(100)
    assert rate.per_second(61.25) == pytest.approx(75)


def test_a_few_starts_in_a_second_are_chance() -> None:
    rate = DrainRate()
    rate.started(0.0)
    for _ in range(5):
        rate.started(60.0)
    assert rate.per_second(60.5) == pytest.approx(0.5)


def test_a_queue_that_has_stopped_has_no_rate() -> None:
    rate = draining(10)
    assert rate.per_second(25.0) < 6
    assert rate.per_second(31.0) == 0


def test_without_data_it_is_a_guess() -> None:
    assert DrainRate().promise(100.0, 50) == UNKNOWN_S


def test_it_is_never_less_than_a_second_nor_more_than_a_minute() -> None:
    assert draining(100).promise(20.0, 1) == MIN_S
    assert draining(1).promise(20.0, 1000) == MAX_S


def test_promises_spread_those_who_are_refused_together() -> None:
    rate = draining(10)
    promises = [rate.promise(20.0, 20) for _ in range(100)]
    assert promises == sorted(promises)
    assert promises[0] == pytest.approx(2.0, rel=0.15)
    assert promises[-1] - promises[0] == pytest.approx(10.0, rel=0.15)


def test_promises_are_forgotten_as_they_are_kept() -> None:
    rate = draining(10)
    for _ in range(100):
        rate.promise(20.0, 0)
    for tick in range(200, 400):
        rate.started(tick / 10)
    assert rate.promise(40.0, 0) == MIN_S


def test_a_client_that_obeys_gets_in() -> None:
    room, service_s = 50, 0.1
    rate = DrainRate()
    queued, now, refused = 0, 0.0, [(0.0, 0)] * 400
    attempts = []
    while refused:
        for came_at, tries in [c for c in refused if c[0] <= now]:
            refused.remove((came_at, tries))
            if queued < room:
                queued += 1
                attempts.append(tries + 1)
            else:
                refused.append((now + rate.promise(now, queued), tries + 1))
        if queued:
            queued -= 1
            rate.started(now)
        now += service_s
    # all came at once when nothing was known; those who are told a time are in at the next try
    assert sum(attempts) / len(attempts) < 4
    assert max(attempts) <= 8
    assert now < 1.3 * 400 * service_s
