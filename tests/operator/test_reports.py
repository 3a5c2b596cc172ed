"""What probing shows, in the resolution in which it is written."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operator_world import NOW
from sagepool_engines.dialects import EngineLoad
from sagepool_engines.probe import ProbeResult
from sagepool_engines.space import describe_space
from sagepool_operator.reports import Report, advance, round_load, same_load

SPACE = describe_space([3.0, 4.0])
GOOD = ProbeResult("EngineReady", max_model_len=8192, space=SPACE, load=EngineLoad(1, 0, 0.1))
LOST = ProbeResult("Unreachable", "no answer")


def test_ready_engine_survives_fewer_failures_than_the_tolerance() -> None:
    report = advance(None, GOOD, NOW, 3)
    for _ in range(2):
        report = advance(report, LOST, NOW, 3)
        assert report.is_ready
    report = advance(report, LOST, NOW, 3)
    assert (report.verdict, report.message, report.was_ready) == ("Unreachable", "no answer", True)


def test_good_probe_forgives_earlier_failures() -> None:
    report = advance(advance(None, GOOD, NOW, 2), LOST, NOW, 2)
    assert report.failures == 1
    assert advance(report, GOOD, NOW, 2).failures == 0


def test_engine_that_was_never_ready_needs_no_patience() -> None:
    report = advance(None, LOST, NOW, 3)
    assert (report.is_ready, report.was_ready) == (False, False)


def test_embedding_space_is_kept_when_no_embedding_was_asked_for() -> None:
    report = advance(advance(None, GOOD, NOW, 3), ProbeResult("EngineReady"), NOW, 3)
    assert report.space == SPACE


@settings(deadline=None)
@given(count=st.integers(0, 10**6))
def test_rounded_counts_are_near_and_exact_when_small(count: int) -> None:
    rounded = round_load(EngineLoad(count, 0, 0), NOW).running
    assert rounded <= count <= max(4, rounded * 1.35)
    assert rounded == count or count > 4


@settings(deadline=None)
@given(counts=st.tuples(st.integers(0, 10**4), st.integers(0, 10**4)))
def test_rounding_keeps_the_order(counts: tuple[int, int]) -> None:
    low, high = sorted(counts)
    assert (
        round_load(EngineLoad(low, 0, 0), NOW).running
        <= round_load(EngineLoad(high, 0, 0), NOW).running
    )


@pytest.mark.parametrize(("usage", "rounded"), [(0.0, 0.0), (0.41, 0.4), (0.44, 0.45), (1.0, 1.0)])
def test_cache_usage_is_in_steps_of_a_twentieth(usage: float, rounded: float) -> None:
    assert round_load(EngineLoad(0, 0, usage), NOW).kv_cache_usage == rounded


def test_only_what_would_be_written_is_news() -> None:
    old = advance(None, GOOD, NOW, 3)
    later = advance(old, GOOD, NOW + timedelta(seconds=5), 3)
    assert not later.says_more_than(old)
    assert same_load(later.load, old.load)
    busy = ProbeResult("EngineReady", load=EngineLoad(9, 0, 0))
    assert advance(old, busy, NOW, 3).says_more_than(old)
    assert Report("Unreachable").says_more_than(old)
    assert old.says_more_than(None)
