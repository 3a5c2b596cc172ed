"""When an engine may be stopped, by what its metrics have said since it was asked to leave."""

from collections.abc import Iterable

import pytest

from sagepool_sidecar.drain import Drain, DrainLimits, Failure, Outcome, joint_outcome
from sagepool_sidecar.page import Load

LIMITS = DrainLimits(total_s=60.0, quiet_s=5.0, refused_s=3.0, silent_s=30.0)
STEP_S = 0.2
BEGAN = 1000.0

IDLE = Load(0, 0, 0.0, 10.0)
RUNNING = Load(1, 0, 0.1, 10.0)
WAITING = Load(0, 1, 0.0, 10.0)


def ends(*phases: tuple[float, Load | Failure]) -> tuple[float, Outcome | None]:
    """After how many seconds the drain ends when the engine says this for that long each."""
    drain = Drain(LIMITS, BEGAN)
    now = BEGAN
    for until, answer in _timeline(phases):
        while now < BEGAN + until:
            drain.note(answer, now)
            outcome = drain.outcome(now)
            if outcome is not None:
                return round(now - BEGAN, 1), outcome
            now += STEP_S
    return round(now - BEGAN, 1), None


def _timeline(
    phases: Iterable[tuple[float, Load | Failure]],
) -> Iterable[tuple[float, Load | Failure]]:
    total = 0.0
    for seconds, answer in phases:
        total += seconds
        yield total, answer


def test_an_idle_engine_waits_for_routers_that_have_not_heard_yet() -> None:
    seconds, outcome = ends((10, IDLE))
    assert outcome == "idle"
    assert seconds == pytest.approx(5, abs=2 * STEP_S)


@pytest.mark.parametrize("busy", [RUNNING, WAITING], ids=["running", "waiting"])
def test_an_engine_with_requests_is_waited_for_until_it_has_been_idle_on_end(busy: Load) -> None:
    seconds, outcome = ends((20, busy), (10, IDLE))
    assert outcome == "idle"
    assert seconds == pytest.approx(25, abs=2 * STEP_S)


def test_a_pause_between_two_requests_is_not_the_end() -> None:
    seconds, outcome = ends((4, RUNNING), (4, IDLE), (4, RUNNING), (10, IDLE))
    assert outcome == "idle"
    assert seconds == pytest.approx(17, abs=2 * STEP_S)


def test_requests_too_short_to_be_seen_running_are_seen_by_what_they_count() -> None:
    later = Load(0, 0, 0.0, 11.0)
    seconds, outcome = ends((4, IDLE), (10, later))
    assert outcome == "idle"
    assert seconds == pytest.approx(9, abs=2 * STEP_S)


def test_a_request_that_never_ends_is_cut_after_the_limit() -> None:
    seconds, outcome = ends((90, RUNNING))
    assert outcome == "time is over"
    assert seconds == pytest.approx(60, abs=2 * STEP_S)


def test_an_engine_whose_process_is_gone_is_not_waited_for() -> None:
    seconds, outcome = ends((2, RUNNING), (10, "refused"))
    assert outcome == "gone"
    assert seconds == pytest.approx(5, abs=2 * STEP_S)


def test_an_engine_that_answers_late_while_it_reads_a_long_prompt_is_waited_for() -> None:
    seconds, outcome = ends((2, RUNNING), (20, "silent"), (10, RUNNING), (10, IDLE))
    assert outcome == "idle"
    assert seconds == pytest.approx(37, abs=2 * STEP_S)


def test_an_engine_that_hangs_is_given_up_before_the_limit() -> None:
    seconds, outcome = ends((2, RUNNING), (60, "silent"))
    assert outcome == "gone"
    assert seconds == pytest.approx(32, abs=2 * STEP_S)


def test_silence_does_not_count_as_idle() -> None:
    assert ends((4, IDLE), (4, "silent"))[1] is None


def together(*engines: tuple[tuple[float, Load | Failure], ...]) -> tuple[float, Outcome | None]:
    """After how many seconds the drain of a pod ends whose engines say this for that long each."""
    drains = [Drain(LIMITS, BEGAN) for _ in engines]
    lasts = max(sum(seconds for seconds, _ in phases) for phases in engines)
    step = 0
    while (now := BEGAN + step * STEP_S) < BEGAN + lasts:
        for drain, phases in zip(drains, engines, strict=True):
            said = [answer for until, answer in _timeline(phases) if now < BEGAN + until]
            drain.note(said[0] if said else phases[-1][1], now)
        outcome = joint_outcome(drains, now)
        if outcome is not None:
            return round(now - BEGAN, 1), outcome
        step += 1
    return round(lasts, 1), None


def test_engines_that_stop_together_are_waited_for_until_all_are_idle() -> None:
    seconds, outcome = together(((10, RUNNING), (20, IDLE)), ((20, RUNNING), (20, IDLE)))
    assert outcome == "idle"
    assert seconds == pytest.approx(25, abs=2 * STEP_S)


def test_an_engine_that_was_idle_is_waited_for_when_it_has_work_again() -> None:
    again = ((8, IDLE), (10, RUNNING), (20, IDLE))
    seconds, outcome = together(((10, RUNNING), (30, IDLE)), again)
    assert outcome == "idle"
    assert seconds == pytest.approx(23, abs=2 * STEP_S)


def test_an_engine_that_is_gone_leaves_the_other_its_time() -> None:
    seconds, outcome = together(((2, RUNNING), (40, "refused")), ((20, RUNNING), (20, IDLE)))
    assert outcome == "gone"
    assert seconds == pytest.approx(25, abs=2 * STEP_S)


def test_the_limit_is_that_of_all_engines_together() -> None:
    seconds, outcome = together(((90, IDLE),), ((90, RUNNING),))
    assert outcome == "time is over"
    assert seconds == pytest.approx(60, abs=2 * STEP_S)
