"""Where keys go: each to few places, for good, while all places carry alike."""

import random
from collections import Counter
from collections.abc import Callable
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.scheduling.ring import BoundedLoads, HashRing


class Engine:
    def __init__(self, name: str, capacity: int = 256) -> None:
        self.name = name
        self.in_flight = 0
        self.capacity = capacity

    def __repr__(self) -> str:
        return self.name


def name_of(engine: Engine) -> str:
    return engine.name


def engines(count: int) -> list[Engine]:
    return [Engine(f"chat-{number}") for number in range(count)]


def keys(count: int, seed: int = 1) -> list[int]:
    source = random.Random(seed)
    return [source.getrandbits(64) for _ in range(count)]


def zipf(count: int) -> list[float]:
    return list(accumulate(1 / rank for rank in range(1, count + 1)))


def uniform(count: int) -> list[float]:
    return list(accumulate([1.0] * count))


def idle(loads: BoundedLoads[Engine], key: int, serving: int) -> Engine:
    """The place of a request that is over before the next one comes, in a pool that is busy."""
    chosen = loads.pick(key, serving, serving)
    assert chosen is not None
    return chosen


@pytest.mark.parametrize("weights", [zipf, uniform])
@pytest.mark.parametrize("count", [2, 4, 10, 16])
@pytest.mark.parametrize("seed", range(4))
def test_what_all_carry_over_a_run_is_even_however_popular_the_keys_are(
    count: int, weights: Callable[[int], list[float]], seed: int
) -> None:
    loads = BoundedLoads(engines(count), name_of)
    drawn = random.Random(seed).choices(keys(32, seed), cum_weights=weights(32), k=500 * count)
    carried = Counter(idle(loads, key, count).name for key in drawn)
    assert max(carried.values()) < 1.15 * 500


@pytest.mark.parametrize("seed", range(6))
def test_keys_come_to_few_places_of_their_own(seed: int) -> None:
    """Of 64, each about a sixth of a member's share: without bounds each had one place."""
    loads = BoundedLoads(engines(10), name_of)
    drawn = random.Random(seed).choices(keys(64, seed), k=5000)
    visits = {(key, idle(loads, key, 10)) for key in drawn}
    assert len(visits) < 3 * 64


def test_a_rare_key_leaves_a_place_that_has_had_its_share_and_stays_where_it_came_to() -> None:
    loads = BoundedLoads(engines(8), name_of)
    ring = HashRing(engines(8), name_of)
    home = ring.walk(1)[0].name
    assert idle(loads, 1, 8).name == home
    crowd = [key for key in keys(4000) if ring.walk(key)[0].name == home]
    for key in keys(400, 2):
        idle(loads, key, 8)
    assert any(idle(loads, key, 8).name != home for key in crowd), "it has had its share"
    moved = idle(loads, 1, 8)
    assert moved.name != home
    assert [idle(loads, 1, 8) for _ in range(3)] == [moved] * 3
    assert idle(BoundedLoads(engines(8), name_of), 1, 8).name == home


def test_a_frequent_key_has_a_second_place_and_takes_the_one_with_less_in_flight() -> None:
    loads = BoundedLoads(engines(8), name_of)
    for _ in range(3):
        home = idle(loads, 1, 8)
    home.in_flight = 11
    second = loads.pick(1, 64, 8)
    assert second is not None
    assert second is not home
    for free, busy in ((second, home), (home, second)):
        free.in_flight, busy.in_flight = 2, 3
        assert loads.pick(1, 64, 8) is free


def test_a_burst_turns_single_requests_away_and_moves_no_key() -> None:
    members = engines(8)
    loads = BoundedLoads(members, name_of)
    home = idle(loads, 1, 8)
    home.in_flight = 11
    aside = loads.pick(1, 64, 8)
    assert aside is not None
    assert aside is not home
    assert loads.pick(1, 64, 8) is aside
    home.in_flight = 0
    assert idle(loads, 1, 8) is home


def test_in_a_pool_with_little_to_do_a_key_stays_whatever_its_place_has_carried() -> None:
    loads = BoundedLoads(engines(8), name_of)
    assert len({loads.pick(1, 0, 8) for _ in range(1000)}) == 1


def test_where_the_others_are_slow_a_place_carries_more_than_its_share() -> None:
    members = engines(4)
    loads = BoundedLoads(members, name_of)
    fast = idle(loads, 1, 4)
    for member in members:
        member.in_flight = 0 if member is fast else 5
    assert {loads.pick(1, 15, 4) for _ in range(1000)} == {fast}


def test_what_is_remembered_is_bounded_and_who_is_forgotten_is_found_at_home() -> None:
    loads = BoundedLoads(engines(8), name_of, size=100)
    first = idle(loads, 1, 8)
    for before, after in pairwise(keys(600)):
        idle(loads, before, 8)
        idle(loads, after, 8)
        assert len(loads) <= 200
    assert idle(BoundedLoads(engines(8), name_of), 1, 8).name == first.name


def test_routers_that_see_different_requests_of_the_same_keys_mostly_agree() -> None:
    shared = keys(200)
    routers = [BoundedLoads(engines(10), name_of) for _ in range(2)]
    for seed, loads in enumerate(routers):
        for key in random.Random(seed).choices(shared, k=4000):
            idle(loads, key, 10)
    one, other = ([idle(loads, key, 10).name for key in shared] for loads in routers)
    same = sum(a == b for a, b in zip(one, other, strict=True))
    assert same > 0.5 * len(shared), "by chance it would be a tenth"


@given(st.lists(st.integers(0, 20), min_size=1, max_size=300), st.integers(1, 12))
def test_the_same_requests_find_the_same_places(asked: list[int], count: int) -> None:
    one, other = (
        [idle(loads, key << 20, count).name for key in asked]
        for loads in (BoundedLoads(engines(count), name_of) for _ in range(2))
    )
    assert one == other
