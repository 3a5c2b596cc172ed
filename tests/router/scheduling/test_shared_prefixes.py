"""Prompts that begin alike, through the scheduler, to simulated engines that remember them."""

import pytest
from bench.simulation.prefixes import Shape, simulate_prefixes

SHAPES = (
    Shape(instances=4, prefixes=16, load=0.3),
    Shape(instances=8, prefixes=24, load=0.6, is_skewed=True),
    Shape(instances=12, prefixes=24, load=0.8, is_skewed=True),
)
SEEDS = (1, 2, 3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_prefixes_are_warm_where_they_come_to_and_no_engine_carries_more_than_others(
    shape: Shape, seed: int
) -> None:
    outcome = simulate_prefixes(shape, seed, requests=200 * shape.instances)
    print(f"warm {outcome.warm:.3f}, busiest {outcome.busiest:.3f} times the mean")
    assert outcome.warm >= 0.95
    assert outcome.busiest <= 1.25


@pytest.mark.parametrize("seed", SEEDS)
def test_routers_that_tell_each_other_nothing_send_a_prefix_to_the_same_engines(seed: int) -> None:
    shape = Shape(instances=8, prefixes=24, load=0.6, is_skewed=True)
    outcome = simulate_prefixes(shape, seed, requests=2400, routers=2)
    print(f"warm {outcome.warm:.3f}, busiest {outcome.busiest:.3f} times the mean")
    assert outcome.warm >= 0.95
    assert outcome.busiest <= 1.25


def test_by_load_alone_the_same_prefixes_are_cold_more_often() -> None:
    shape = Shape(instances=16, prefixes=24, load=0.6)
    by_prefix, by_load = (
        simulate_prefixes(shape, 1, requests=1000, has_affinity=has_affinity)
        for has_affinity in (True, False)
    )
    assert 1 - by_load.warm > 3 * (1 - by_prefix.warm)


def test_without_shared_prefixes_placement_is_exactly_the_least_loaded_one() -> None:
    shape = Shape(instances=10, prefixes=0, load=0.6)
    with_affinity, without = (
        simulate_prefixes(shape, 1, requests=800, has_affinity=has_affinity)
        for has_affinity in (True, False)
    )
    assert with_affinity == without
