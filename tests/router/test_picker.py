"""Least-loaded choice, against the obvious way of doing it."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.picker import LeastLoaded


class Engine:
    def __init__(self, capacity: int) -> None:
        self.in_flight = 0
        self.capacity = capacity


def engines(*capacities: int) -> tuple[list[Engine], LeastLoaded[Engine]]:
    members = [Engine(capacity) for capacity in capacities]
    return members, LeastLoaded(members, random.Random(3).random)


def charge(index: LeastLoaded[Engine], engine: Engine, by: int = 1) -> None:
    engine.in_flight += by
    update(index, engine)


def update(index: LeastLoaded[Engine], engine: Engine) -> None:
    index.update(next(place for place in index.seats if place.member is engine))


def test_nothing_can_be_picked_from_nobody() -> None:
    assert engines()[1].pick() is None


def test_a_hundred_over_four_idle_members_are_25_each() -> None:
    members, index = engines(256, 256, 256, 256)
    for _ in range(100):
        chosen = index.pick()
        assert chosen is not None
        charge(index, chosen)
    assert [member.in_flight for member in members] == [25, 25, 25, 25]


def test_equals_are_chosen_evenly() -> None:
    members, index = engines(*[1] * 10)
    counts = Counter(members.index(chosen) for _ in range(2000) if (chosen := index.pick()))
    assert set(counts) == set(range(10))
    assert min(counts.values()) > 100


def test_members_at_their_limit_are_passed_over_until_they_have_room() -> None:
    (small, _large), index = engines(1, 2)
    charge(index, small)
    for _ in range(2):
        chosen = index.pick()
        assert chosen is _large
        charge(index, _large)
    assert index.pick() is None
    charge(index, small, -1)
    assert index.pick() is small


def test_a_member_without_capacity_is_left_out_until_it_has_some() -> None:
    (first, second), index = engines(5, 5)
    first.capacity = 0
    update(index, first)
    charge(index, second, 3)
    assert index.pick() is second
    first.capacity = 5
    update(index, first)
    assert index.pick() is first


def test_excluded_members_are_never_picked() -> None:
    members, index = engines(5, 5, 5)
    charge(index, members[2])
    assert index.pick(members[:2]) is members[2]
    assert index.pick(members) is None


actions = st.lists(
    st.tuples(
        st.sampled_from(["pick", "release", "resize"]),
        st.integers(0, 7),
        st.integers(0, 4),
        st.sets(st.integers(0, 7)),
    ),
    max_size=200,
)


@given(st.lists(st.integers(0, 4), min_size=8, max_size=8), actions, st.integers())
def test_every_pick_is_as_good_as_a_full_scan(
    capacities: list[int], steps: list[tuple[str, int, int, set[int]]], seed: int
) -> None:
    members = [Engine(capacity) for capacity in capacities]
    index = LeastLoaded(members, random.Random(seed).random)
    for action, position, capacity, excluded in steps:
        if action == "pick":
            tried = [members[i] for i in excluded]
            options = [m for m in members if m.in_flight < m.capacity and m not in tried]
            chosen = index.pick(tried)
            if chosen is None:
                assert not options
                continue
            assert chosen in options
            assert chosen.in_flight == min(m.in_flight for m in options)
            charge(index, chosen)
        elif action == "release" and members[position].in_flight:
            charge(index, members[position], -1)
        elif action == "resize":
            members[position].capacity = capacity
            update(index, members[position])
