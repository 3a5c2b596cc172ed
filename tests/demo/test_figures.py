import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_demo.figures import Outcome, percentile, summarise, summarise_progress

CHAT = Outcome("chat", started_s=0, latency_s=0.2, instance="a")
STREAMED = Outcome("streamed chat", started_s=1, latency_s=0.4, first_token_s=0.1, instance="b")
FAILED = Outcome("chat", started_s=2, latency_s=9, failure="status 503: no")


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 5), (90, 9), (99, 10), (100, 10)])
def test_percentiles_are_values_that_were_seen(percent: float, expected: int) -> None:
    assert percentile([*range(10, 0, -1)], percent) == expected


def test_no_values_have_no_percentile() -> None:
    assert percentile([], 50) is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_at_least_the_share_of_values_lies_at_or_below_a_percentile(
    values: list[float], percent: float
) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(v <= found for v in values) >= len(values) * percent / 100 - 1e-6


def test_failed_requests_count_as_failures_and_not_towards_latencies() -> None:
    chat = next(k for k in summarise([CHAT, STREAMED, FAILED], 3).kinds if k.kind == "chat")
    assert (chat.requests, chat.failures) == (2, 1)
    assert chat.p99_s == 0.2
    assert chat.first_token_p50_s is None


def test_the_sums_say_who_answered_what_and_why_requests_failed() -> None:
    finished = summarise([CHAT, STREAMED, FAILED], 3)
    assert finished.answered == {"a": {"chat": 1}, "b": {"streamed chat": 1}}
    assert finished.reasons == {"status 503: no": 1}


def test_progress_counts_answers_by_instance() -> None:
    progress = summarise_progress([CHAT, CHAT, STREAMED, FAILED], 3)
    assert (progress.requests, progress.failures) == (4, 1)
    assert progress.answered == {"a": 2, "b": 1}
