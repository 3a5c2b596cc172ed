"""Chat protected from embeddings: by its first token, and by what its engines say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.scheduling.hold_back import (
    EASED,
    FLOOR,
    FRESH_S,
    FULL,
    MAX_WINDOW,
    PERIOD_S,
    RETRY_S,
    EnginePressure,
    HoldBack,
    Shortage,
)


def periods(hold_back: HoldBack, count: int, ttft_s: float, *, calls: int, since: float) -> float:
    """So many periods in which chats see this time to first token; returns the time after it."""
    for number in range(1, count + 1):
        for _ in range(10):
            hold_back.observe_first_token(ttft_s)
        hold_back.tick(since + number * PERIOD_S, calls)
    return since + count * PERIOD_S


def test_no_call_starts_while_a_chat_has_waited_for_a_fifth_of_the_target() -> None:
    hold_back = HoldBack(2.0)
    assert hold_back.may_start(calls=0, oldest_age_s=0.35)
    assert not hold_back.may_start(calls=0, oldest_age_s=0.45)


def test_a_chat_waits_for_the_gpu_from_a_tenth_of_the_target_on() -> None:
    hold_back = HoldBack(2.0)
    assert [hold_back.is_waiting(age_s) for age_s in (0.0, 0.15, 0.25)] == [False, False, True]


def test_the_window_shrinks_over_the_target_and_grows_well_below_it() -> None:
    hold_back = HoldBack(1.0)
    now = periods(hold_back, 3, 1.5, calls=2, since=0.0)
    small = hold_back.window
    assert small < MAX_WINDOW / 2
    assert not hold_back.may_start(calls=4, oldest_age_s=0.0)
    now = periods(hold_back, 5, 0.9, calls=2, since=now)
    assert hold_back.window == small
    periods(hold_back, 4, 0.1, calls=2, since=now)
    assert hold_back.window == small + 1.0


def test_the_window_never_falls_below_its_floor() -> None:
    hold_back = HoldBack(1.0)
    periods(hold_back, 50, 9.0, calls=1, since=0.0)
    assert hold_back.window == FLOOR
    assert hold_back.may_start(calls=0, oldest_age_s=0.0)


def test_a_target_that_is_missed_without_embeddings_does_not_hold_them_back() -> None:
    hold_back = HoldBack(1.0)
    periods(hold_back, 1, 3.0, calls=0, since=0.0)
    assert not hold_back.is_reachable
    assert hold_back.may_start(calls=0, oldest_age_s=5.0)
    assert not hold_back.may_start(calls=1, oldest_age_s=5.0)


def test_an_unreachable_target_stays_so_while_embeddings_run_and_is_tried_again_later() -> None:
    hold_back = HoldBack(1.0)
    now = periods(hold_back, 1, 3.0, calls=0, since=0.0)
    now = periods(hold_back, 5, 3.0, calls=1, since=now)
    assert not hold_back.is_reachable
    periods(hold_back, int(RETRY_S / PERIOD_S), 3.0, calls=1, since=now)
    assert hold_back.is_reachable


def test_a_target_that_is_met_again_is_protected_again() -> None:
    hold_back = HoldBack(1.0)
    now = periods(hold_back, 1, 3.0, calls=0, since=0.0)
    periods(hold_back, 1, 0.2, calls=1, since=now)
    assert hold_back.is_reachable


def test_without_chats_the_window_opens() -> None:
    hold_back = HoldBack(1.0)
    now = periods(hold_back, 10, 3.0, calls=1, since=0.0)
    for number in range(100):
        hold_back.tick(now + number * PERIOD_S, 0)
    assert hold_back.window == MAX_WINDOW


# What chat engines say.


@pytest.mark.parametrize(
    ("waiting", "kv_use", "cause"),
    [
        (0, 0.0, None),
        (0, FULL - 0.01, None),
        (1, 0.0, "engine_queue"),
        (3, 0.99, "engine_queue"),
        (0, FULL, "engine_kv_cache"),
        (0, 1.0, "engine_kv_cache"),
    ],
)
def test_an_engine_is_short_when_something_waits_in_it_or_its_cache_is_nearly_full(
    waiting: int, kv_use: float, cause: Shortage | None
) -> None:
    pressure = EnginePressure()
    pressure.observe(10.0, "engine", waiting, kv_use)
    assert (pressure.until > 10.0) is (cause is not None)
    if cause is not None:
        assert (pressure.until, pressure.cause) == (10.0 + FRESH_S, cause)


def test_a_cache_that_was_nearly_full_is_so_until_it_has_clearly_eased() -> None:
    pressure = EnginePressure()
    found = []
    for number, kv_use in enumerate((0.85, 0.91, 0.85, EASED, 0.79, 0.85, FULL)):
        now = 10.0 + number * 0.5
        pressure.observe(now, "engine", 0, kv_use)
        found.append(pressure.until > now)
    assert found == [False, True, True, True, False, False, True]


def test_a_reading_that_is_too_old_says_nothing_of_the_cache_either() -> None:
    pressure = EnginePressure()
    pressure.observe(10.0, "engine", 0, 0.95)
    later = 10.0 + FRESH_S
    assert pressure.until == later
    pressure.observe(later, "engine", 0, 0.85)
    assert pressure.until <= later


def test_one_engine_with_room_does_not_speak_for_another() -> None:
    pressure = EnginePressure()
    pressure.observe(10.0, "short", 1, 0.0)
    pressure.observe(10.2, "idle", 0, 0.1)
    assert pressure.until == 10.0 + FRESH_S
    pressure.observe(10.4, "short", 0, 0.1)
    assert pressure.until < 10.4


def test_shortness_begins_with_its_first_reading() -> None:
    pressure = EnginePressure()
    for now in (10.0, 10.5, 11.0):
        pressure.observe(now, "engine", 2, 0.0)
    assert pressure.since == 10.0
    pressure.observe(11.5, "engine", 0, 0.0)
    pressure.observe(12.0, "engine", 2, 0.0)
    assert pressure.since == 12.0


def test_what_was_given_up_counts_again_after_a_while() -> None:
    pressure = EnginePressure()
    pressure.observe(10.0, "engine", 2, 0.0)
    pressure.give_up(12.0)
    for now in (12.0, 12.5, 12.0 + RETRY_S - 0.1):
        pressure.observe(now, "engine", 2, 0.0)
        assert pressure.until <= now
    now = 12.0 + RETRY_S
    pressure.observe(now, "engine", 2, 0.0)
    assert (pressure.since, pressure.until) == (now, now + FRESH_S)


@given(
    readings=st.lists(
        st.tuples(
            st.floats(0.0, 3.0),
            st.sampled_from(["a", "b"]),
            st.integers(0, 3),
            st.floats(0.0, 1.0),
        )
    )
)
def test_it_holds_only_while_a_fresh_reading_says_that_an_engine_is_short(
    readings: list[tuple[float, str, int, float]],
) -> None:
    pressure = EnginePressure()
    now = 100.0
    short_at = 0.0
    for passed_s, engine, waiting, kv_use in readings:
        now += passed_s
        pressure.observe(now, engine, waiting, kv_use)
        if waiting or kv_use >= EASED:
            short_at = now
        assert pressure.until <= short_at + FRESH_S
        if waiting or kv_use >= FULL:
            assert pressure.until == now + FRESH_S
