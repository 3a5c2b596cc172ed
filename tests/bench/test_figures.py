"""Percentiles, spreads and ratios."""

import math

import pytest
from bench.figures import Spread, percentile, ratios, spread


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        ([7.0], 0.5, 7.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        (list(range(1, 101)), 0.99, 99),
        (list(range(1, 101)), 1.0, 100),
        ([1.0, 2.0], 0.001, 1.0),
    ],
)
def test_percentile_is_the_nearest_rank(
    samples: list[float], share: float, expected: float
) -> None:
    assert percentile(samples, share) == expected


def test_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize("share", [0.0, -1.0, 1.01])
def test_percentile_refuses_a_share_that_is_none(share: float) -> None:
    with pytest.raises(ValueError, match="is not above 0"):
        percentile([1.0], share)


def test_spread_is_median_and_extremes() -> None:
    assert spread([5.0, 1.0, 3.0]) == Spread(3.0, 1.0, 5.0)


def test_ratios_compare_each_round_with_its_own_reference() -> None:
    # The second round ran on a machine that was twice as slow for both.
    assert ratios([15.0, 30.0], [10.0, 20.0]) == Spread(1.5, 1.5, 1.5)
