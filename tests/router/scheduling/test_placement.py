"""Which instance is chosen, and why."""

import random
from math import inf
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.scheduling.placement import Placement, latency_class
from sagepool_router.scheduling.policies import PlacementRule
from sagepool_router.scheduling.settings import PolicyName
from sagepool_router.scheduling.work import Work
from scheduling_world import Engine, World, engines, loads

RULES: tuple[PlacementRule, ...] = ("least_loaded", "lowest_latency", "cheapest")


class Placed(NamedTuple):
    place: Engine
    reason: str


def place(
    *members: Engine,
    rule: PlacementRule = "least_loaded",
    prefers: bool = True,
    excluded: tuple[Engine, ...] = (),
    affinity: int | None = None,
    budget: float = inf,
    deadline_at: float = inf,
) -> Placed | None:
    placement = Placement(members, random.Random(1).random, prefers_specialized=prefers)
    work: Work[Engine] = Work(
        "llm", "m", 0.0, tokens=1000, affinity=affinity, budget=budget, deadline_at=deadline_at
    )
    choice = placement.choose(work, rule, 0.0, excluded)
    return None if choice is None else Placed(choice.place, choice.reason)


def test_a_specialised_engine_goes_before_a_mixed_one_until_it_is_full() -> None:
    pure, shared = Engine("pure", limit=2), Engine("shared", is_specialized=False)
    world = World(shared, pure)
    works = [world.chat() for _ in range(3)]
    assert [work.place for work in works] == [pure, pure, shared]
    assert [call.reason for call in world.calls] == ["specialized", "specialized", "least_loaded"]


def test_without_the_preference_only_load_counts() -> None:
    pure, shared = Engine("pure", limit=2), Engine("shared", is_specialized=False)
    world = World(shared, pure, prefer_specialized_instances=False)
    places = [world.chat().place for _ in range(2)]
    assert {str(found) for found in places} == {"pure", "shared"}


@pytest.mark.parametrize(
    ("policy", "facts"),
    [
        ("fifo", {}),
        ("priority", {"priority": 0}),
        ("priority", {"priority": 3}),
        ("slo_aware", {}),
        ("slo_aware", {"deadline_at": 5.0}),
        ("cost_optimized", {}),
        ("cost_optimized", {"affinity": 7}),
        ("slo_aware", {"affinity": 7}),
    ],
)
@pytest.mark.parametrize(
    ("prefers", "expected"), [(True, ["pure"] * 2 + ["shared"]), (False, ["shared"] * 3)]
)
def test_under_every_rule_the_preference_changes_who_is_first(
    policy: str, facts: dict[str, Any], prefers: bool, expected: list[str]
) -> None:
    pure = Engine("pure", limit=14, latency_s=2.0, price=2.0)
    pure.in_flight = 12
    shared = Engine("shared", is_specialized=False, latency_s=0.5, price=2.0)
    other = Engine("other", is_specialized=False, latency_s=9.0, price=3.0)
    other.in_flight = 99
    world = World(other, shared, pure, policy=policy, prefer_specialized_instances=prefers)
    assert [str(world.chat(**facts).place) for _ in range(3)] == expected


def test_a_dearer_specialised_engine_does_not_beat_a_cheaper_shared_one() -> None:
    pure = Engine("pure", price=2.0)
    shared = Engine("shared", price=1.0, is_specialized=False)
    assert place(pure, shared, rule="cheapest") == Placed(shared, "cheapest")


@pytest.mark.parametrize(
    ("rule", "deadline_at", "name"),
    [
        ("lowest_latency", 3.0, "pure"),
        ("lowest_latency", 1.0, "shared"),
        ("lowest_latency", 0.1, "pure"),
        ("cheapest", 3.0, "pure"),
        ("cheapest", 1.0, "shared"),
        ("cheapest", 0.1, "shared"),
    ],
)
def test_a_specialised_engine_gives_way_to_one_that_would_be_in_time(
    rule: PlacementRule, deadline_at: float, name: str
) -> None:
    pure = Engine("pure", price=1.0, latency_s=2.0)
    shared = Engine("shared", price=1.0, latency_s=0.5, is_specialized=False)
    dear = Engine("dear", price=9.0, latency_s=4.0)
    choice = place(dear, shared, pure, rule=rule, deadline_at=deadline_at)
    assert choice is not None
    assert choice.place.name == name


def test_the_lowest_expected_latency_counts_what_is_in_flight() -> None:
    fast, slow = Engine("fast", latency_s=0.1), Engine("slow", latency_s=0.2)
    assert place(slow, fast, rule="lowest_latency") == Placed(fast, "lowest_latency")
    fast.in_flight = 30
    assert place(slow, fast, rule="lowest_latency") == Placed(slow, "lowest_latency")


@pytest.mark.parametrize(
    ("seconds", "other", "are_equal"), [(0.1, 0.101, True), (0.1, 0.15, False), (9.0, 9.3, True)]
)
def test_latencies_that_hardly_differ_are_equal(
    seconds: float, other: float, are_equal: bool
) -> None:
    assert (latency_class(seconds) == latency_class(other)) is are_equal


def test_a_price_that_nobody_knows_is_as_good_as_free() -> None:
    own, rented = Engine("own"), Engine("rented", price=2.0)
    assert place(rented, own, rule="cheapest") == Placed(own, "cheapest")


def test_equal_prices_are_chosen_by_load() -> None:
    members = engines(2, price=2.0)
    members[0].in_flight = 1
    assert place(*members, rule="cheapest") == Placed(members[1], "least_loaded")


def test_who_cannot_be_in_time_anywhere_gets_the_fastest_in_the_budget() -> None:
    cheap = Engine("cheap", price=1.0, latency_s=5.0)
    fair = Engine("fair", price=2.0, latency_s=2.0)
    dear = Engine("dear", price=50.0, latency_s=1.0)
    choice = place(cheap, fair, dear, rule="cheapest", deadline_at=0.5, budget=5 / 3600)
    assert choice == Placed(fair, "fastest_in_budget")


def test_a_newly_measured_throughput_changes_who_is_cheapest() -> None:
    first, second = Engine("first", price=1.0), Engine("second", price=2.0)
    world = World(first, second, policy="cost_optimized")
    assert world.chat().place is first
    second.tokens_per_s, first.tokens_per_s = 5000.0, 100.0
    world.scheduler.sweep()
    assert world.chat().place is second


def test_what_belongs_together_goes_to_one_place_while_its_load_allows() -> None:
    world = World(*engines(8))
    places = set()
    for _ in range(10):
        places.add(world.chat(affinity=12345).place)
        assert world.finish().reason == "affinity"
    assert len(places) == 1
    for _ in range(64):
        world.chat(affinity=12345)
    assert max(loads(world.engines)) <= 10


KEYS = [0x9E3779B9 * (number + 1) for number in range(40)]


def homes(world: World, **facts: Any) -> dict[int, set[str]]:
    """Where each key goes, three times one after the other."""
    found: dict[int, set[str]] = {}
    for key in KEYS * 3:
        found.setdefault(key, set()).add(str(world.chat(affinity=key, **facts).place))
        assert world.finish().reason == "affinity"
    return found


def test_a_request_with_a_budget_is_placed_by_the_policy_alone() -> None:
    world = World(*engines(4))
    for _ in range(8):
        world.chat(affinity=7, budget=1.0)
    assert {call.reason for call in world.calls} == {"least_loaded"}


def test_under_lowest_latency_a_key_keeps_a_place_that_is_less_than_an_octave_worse() -> None:
    near = [Engine(f"near {i}", latency_s=latency_s) for i, latency_s in enumerate((0.1, 0.17))]
    far = [Engine(f"far {i}", latency_s=latency_s) for i, latency_s in enumerate((0.22, 2.0))]
    found = homes(World(*near, *far, policy="slo_aware"))
    assert all(len(places) == 1 for places in found.values())
    assert set().union(*found.values()) == {"near 0", "near 1"}


def test_under_lowest_latency_what_is_in_flight_at_a_keys_place_counts() -> None:
    members = engines(2, latency_s=0.1)
    choice = place(*members, rule="lowest_latency", affinity=1)
    assert choice is not None
    home, other = choice.place, next(e for e in members if e is not choice.place)
    for in_flight, expected in ((7, home), (8, other)):
        home.in_flight, other.in_flight = in_flight, 0
        more = [Engine(f"{i}", latency_s=9.0) for i in range(2)]
        for engine in more:
            engine.in_flight = 8 * (in_flight + 1)  # its bound is not what keeps a key away
        assert place(*members, *more, rule="lowest_latency", affinity=1) == Placed(
            expected, "affinity"
        )


def test_under_cheapest_a_key_keeps_a_place_among_those_of_the_lowest_price() -> None:
    cheap = [Engine(f"cheap {i}", price=1.0, latency_s=1.0) for i in range(3)]
    slow = Engine("slow", price=1.0, latency_s=7.0)
    slow.in_flight = 1
    dear = [Engine(f"dear {i}", price=2.0, latency_s=0.1) for i in range(3)]
    found = homes(World(*dear, slow, *cheap, policy="cost_optimized"), deadline_at=5.0)
    assert all(len(places) == 1 for places in found.values())
    assert set().union(*found.values()) == {"cheap 0", "cheap 1", "cheap 2"}


def test_under_cheapest_the_others_load_is_none_of_a_keys_bound() -> None:
    """All goes to the cheap ones: by the mean of all instances each of them had too much."""
    cheap = [Engine(f"cheap {i}", price=1.0) for i in range(2)]
    world = World(*cheap, *engines(8, price=2.0), policy="cost_optimized")
    reasons = []
    for turn in range(60):
        world.chat(affinity=KEYS[turn % 40])
        reasons.append(world.calls[-1].reason)
    assert sum(loads(cheap)) == 60
    assert reasons.count("affinity") > 50


@pytest.mark.parametrize("deadline_at", [inf, 0.5])
def test_where_prices_are_equal_no_key_is_late_under_cheapest(deadline_at: float) -> None:
    slow, fast = Engine("slow", latency_s=5.0), Engine("fast", latency_s=0.1)
    world = World(slow, fast, policy="cost_optimized")
    places = set().union(*homes(world, deadline_at=deadline_at).values())
    assert places == ({"slow", "fast"} if deadline_at == inf else {"fast"})


@given(
    rule=st.sampled_from(RULES[1:]),
    prefers=st.booleans(),
    affinity=st.integers(0, 2**32 - 1),
    deadline_at=st.sampled_from([inf, 1.0, 0.2]),
    seed=st.integers(),
)
def test_a_key_never_contradicts_the_rule(
    rule: PlacementRule, prefers: bool, affinity: int, deadline_at: float, seed: int
) -> None:
    chance = random.Random(seed)
    members = []
    for number in range(chance.randrange(1, 9)):
        engine = Engine(
            f"e{number}",
            limit=chance.randrange(12),
            is_specialized=chance.random() < 0.7,
            price=chance.choice((1.0, 2.0)),
            latency_s=chance.choice((0.0, 0.1, 0.15, 0.5, 3.0)),
        )
        engine.in_flight = chance.randrange(10)
        members.append(engine)
    plain = place(*members, rule=rule, prefers=prefers, deadline_at=deadline_at)
    keyed = place(*members, rule=rule, prefers=prefers, deadline_at=deadline_at, affinity=affinity)
    if plain is None or keyed is None:
        assert plain is keyed
        return
    best, found = plain.place, keyed.place
    if best.latency_s <= deadline_at:
        assert found.latency_s <= deadline_at
    if rule == "cheapest":
        assert found.price_per_hour == best.price_per_hour
    else:
        expected = [e.latency_class + e.in_flight for e in (best, found)]
        assert expected[1] < expected[0] + 8
    if best.is_specialized and prefers:
        assert found.is_specialized


@given(
    rule=st.sampled_from(RULES),
    prefers=st.booleans(),
    affinity=st.none() | st.integers(0, 2**32 - 1),
    budget=st.sampled_from([inf, inf, 0.001]),
    seed=st.integers(),
)
def test_whoever_is_chosen_has_room_and_is_not_excluded(
    rule: PlacementRule, prefers: bool, affinity: int | None, budget: float, seed: int
) -> None:
    chance = random.Random(seed)
    members = []
    for number in range(chance.randrange(1, 8)):
        engine = Engine(
            f"e{number}",
            limit=chance.randrange(4),
            is_specialized=chance.random() < 0.5,
            price=chance.choice((0.0, 1.0, 2.0)),
            latency_s=chance.choice((0.0, 0.1, 3.0)),
        )
        engine.in_flight = chance.randrange(4)
        members.append(engine)
    excluded = tuple(engine for engine in members if chance.random() < 0.3)
    free = [e for e in members if e.in_flight < e.capacity and e not in excluded]
    choice = place(
        *members, rule=rule, prefers=prefers, excluded=excluded, affinity=affinity, budget=budget
    )
    if choice is not None:
        assert choice.place in free
    elif budget == inf:
        assert not free


def test_the_load_is_what_is_in_flight_over_what_there_is_room_for() -> None:
    world = World(*engines(2, limit=4), Engine("out", limit=0))
    for _ in range(4):
        world.chat()
    placement = world.lane("chat").placement
    assert (placement.load, placement.has_room) == (0.5, True)
    for _ in range(4):
        world.chat()
    assert (placement.load, placement.has_room) == (1.0, False)


@pytest.mark.parametrize("policy", ["slo_aware", "cost_optimized"])
def test_an_index_made_on_the_way_knows_loads_after_a_new_table(policy: PolicyName) -> None:
    members = [Engine(f"{n}", price=1.0 + n // 2, latency_s=0.1, limit=5) for n in range(4)]
    world = World(*members, policy=policy)
    world.chat()
    world.use(*members)
    places = [world.chat().place for _ in range(19)]
    assert {places.count(member) for member in members} <= {4, 5}
