"""The tokens of a merged call are split among its callers, none lost and none invented."""

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.embedding.usage_shares import split_usage

totals = st.integers(0, 10**9)
weights = st.lists(st.integers(0, 10**6), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("total", "given_weights", "parts"),
    [
        (10, [1], [10]),
        (10, [1, 1], [5, 5]),
        (10, [3, 7], [3, 7]),
        (10, [1, 1, 1], [4, 3, 3]),
        (11, [1, 1, 1], [4, 4, 3]),
        (5, [1, 2, 2], [1, 2, 2]),
        (1, [1, 9], [0, 1]),
        (7, [2, 3, 5], [1, 2, 4]),
        (4, [4, 1], [3, 1]),
        (0, [4, 5], [0, 0]),
        (3, [0, 0], [2, 1]),
        (3, [0, 1], [0, 3]),
    ],
)
def test_parts_are_in_proportion(total: int, given_weights: list[int], parts: list[int]) -> None:
    assert split_usage(total, given_weights) == parts


@given(totals, weights)
def test_parts_add_up_to_the_total(total: int, given_weights: list[int]) -> None:
    assert sum(split_usage(total, given_weights)) == total


@given(totals, weights.filter(any))
def test_each_part_is_its_exact_share_rounded(total: int, given_weights: list[int]) -> None:
    for part, weight in zip(split_usage(total, given_weights), given_weights, strict=True):
        exact = Fraction(total * weight, sum(given_weights))
        assert floor(exact) <= part <= ceil(exact)


@given(totals, weights)
def test_more_weight_never_gets_less(total: int, given_weights: list[int]) -> None:
    parts = split_usage(total, given_weights)
    by_weight = [part for _, part in sorted(zip(given_weights, parts, strict=True))]
    assert by_weight == sorted(by_weight)
