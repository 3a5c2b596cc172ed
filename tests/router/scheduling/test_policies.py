"""Each policy's order and places, and that no two of them are the same."""

from itertools import combinations
from math import inf
from typing import Any

import pytest

from sagepool_crds.pool import Role
from scheduling_world import EMBEDDER, Engine, World, engines, texts_of

POLICIES = ("fifo", "priority", "slo_aware", "cost_optimized", "adaptive", "hybrid")


def one_by_one(policy: str) -> World:
    """One engine that takes one call at a time, and is busy."""
    world = World(Engine("e", limit=1), policy=policy)
    world.chat("running")
    return world


# Order.


def test_fifo_is_by_arrival_whatever_the_requests_say() -> None:
    world = one_by_one("fifo")
    world.chat("first", priority=4)
    world.chat("second", priority=0, deadline_at=0.5)
    assert world.order()[1:] == ["first", "second"]


def test_priority_is_by_priority_and_then_by_arrival() -> None:
    world = one_by_one("priority")
    for name, priority in (("d", 3), ("b", 2), ("a", 0), ("c", 2), ("e", 4)):
        world.chat(name, priority=priority)
    assert world.order()[1:] == ["a", "b", "c", "d", "e"]


def test_under_priority_waiting_raises_a_request_above_newer_ones() -> None:
    world = one_by_one("priority")
    background = world.chat("background", priority=4, tokens=1)
    while background.state == "waiting":
        world.chat("critical", priority=0, tokens=1)
        world.chat("critical", priority=0, tokens=1)
        world.pass_time(0.25)
        world.finish()
        world.finish()
        assert world.clock.now < 120, "background work starves"
    assert world.clock.now > 10


def test_slo_aware_is_by_deadline() -> None:
    world = one_by_one("slo_aware")
    world.chat("relaxed", deadline_at=30.0)
    world.chat("none")  # as the pool has promised itself: one second
    world.chat("tight", deadline_at=0.5)
    assert world.order()[1:] == ["tight", "none", "relaxed"]


def test_under_slo_aware_an_embedding_without_a_deadline_is_due_as_the_pool_has_promised() -> None:
    world = World(Engine("e", "embedding", limit=1), policy="slo_aware")
    world.embed(name="running")
    world.embed(name="deadline", deadline_at=0.5)
    world.embed(name="promised")
    assert world.order() == ["running", "promised", "deadline"]


def test_under_slo_aware_who_cannot_make_it_stands_back_for_who_can() -> None:
    world = one_by_one("slo_aware")
    world.lane("chat").outlook.service_s = 2.0
    world.chat("lost", deadline_at=3.0)
    world.chat("possible", deadline_at=10.0)
    world.pass_time(2.0)
    assert world.order()[1:] == ["possible", "lost"]


def test_under_slo_aware_what_has_no_deadline_is_never_too_late() -> None:
    world = one_by_one("slo_aware")
    world.chat("old")
    world.pass_time(20.0)
    world.chat("new")
    assert world.order()[1:] == ["old", "new"]


def test_a_demoted_request_is_served_in_the_end() -> None:
    world = one_by_one("slo_aware")
    late = world.chat("late", deadline_at=0.1, tokens=10)
    world.pass_time(0.5)
    while late.state == "waiting":
        world.chat("good", deadline_at=world.clock.now + 5, tokens=10)
        world.pass_time(0.25)
        world.finish()
        assert world.clock.now < 120, "demoted work starves"


# Places.


def test_priority_sends_the_urgent_where_latency_is_lowest() -> None:
    slow, fast = Engine("slow", latency_s=2.0), Engine("fast", latency_s=0.2)
    world = World(slow, fast, policy="priority")
    world.calls[:] = []
    urgent = [world.chat(priority=1) for _ in range(3)]
    assert {work.place for work in urgent} == {fast}
    normal = [world.chat(priority=2) for _ in range(3)]
    assert {work.place for work in normal} == {slow}


def test_cost_optimized_takes_the_cheapest_by_measured_throughput() -> None:
    dear = Engine("dear an hour", price=4.0, tokens_per_s=4000)
    cheap = Engine("cheap an hour", price=2.0, tokens_per_s=1000)
    world = World(cheap, dear, policy="cost_optimized")
    assert [world.chat().place for _ in range(3)] == [dear, dear, dear]


@pytest.mark.parametrize(("deadline_at", "name"), [(inf, "cheap"), (5.0, "cheap"), (0.5, "fast")])
def test_cost_optimized_pays_more_only_for_a_deadline(deadline_at: float, name: str) -> None:
    cheap = Engine("cheap", price=1.0, latency_s=2.0)
    fast = Engine("fast", price=3.0, latency_s=0.2)
    world = World(cheap, fast, policy="cost_optimized")
    place = world.chat(deadline_at=deadline_at).place
    assert place is not None
    assert place.name == name


def test_cost_optimized_keeps_to_a_budget_and_lets_others_pass_meanwhile() -> None:
    cheap = Engine("cheap", price=1.0, limit=1, tokens_per_s=1000)
    dear = Engine("dear", price=10.0, limit=1, tokens_per_s=1000)
    world = World(cheap, dear, policy="cost_optimized")
    budget = 2 * 1.0 / 3600  # of 1000 tokens on the cheap one: half of it
    assert world.chat("first", tokens=1000).place is cheap
    poor = world.chat("poor", tokens=1000, budget=budget)
    rich = world.chat("rich", tokens=1000)
    assert (poor.state, rich.place) == ("waiting", dear)
    world.finish(world.calls[0])
    assert poor.place is cheap


def test_a_budget_that_no_instance_meets_gets_the_cheapest() -> None:
    world = World(Engine("cheap", price=1.0), Engine("dear", price=9.0), policy="cost_optimized")
    place = world.chat(tokens=10**6, budget=0.0).place
    assert place is not None
    assert place.name == "cheap"


# No two place alike: the same pool, and what each makes of it.

SCENES: dict[str, tuple[str, ...]] = {
    # policies as above:  fifo, priority, slo_aware, cost_optimized, adaptive, hybrid
    "normal": ("idle", "idle", "fast", "cheap", "cheap", "cheap"),
    "critical": ("idle", "fast", "fast", "cheap", "cheap", "cheap"),
    "tight": ("idle", "idle", "fast", "fast", "fast", "fast"),
    "crowded": ("idle", "idle", "fast", "cheap", "idle", "idle"),
    "embedding": ("idle", "idle", "fast", "cheap", "cheap", "idle"),
}
FACTS: dict[str, dict[str, Any]] = {"critical": {"priority": 0}, "tight": {"deadline_at": 3.0}}


def _mixed_pool(policy: str, scene: str) -> World:
    """Two instances of each sort, of which one is idle, one fast and one cheap."""
    kind: Role = "embedding" if scene == "embedding" else "llm"
    limit, busy = (3, 1) if scene == "crowded" else (10, 0)
    found = []
    for name, load, price, latency_s in (
        ("idle", busy, 2.0, 2.0),
        ("fast", busy + 1, 3.0, 0.2),
        ("cheap", busy + 1, 1.0, 4.0),
    ):
        for number in range(2):
            engine = Engine(f"{name} {number}", kind, limit=limit, price=price, latency_s=latency_s)
            engine.in_flight = load
            found.append(engine)
    world = World(*found, policy=policy)
    world.pass_time(1.5)  # adaptive looks around
    return world


def _places(policy: str, scene: str, *, is_keyed: bool) -> str:
    """Where requests go that come one by one, by sort of instance."""
    world = _mixed_pool(policy, scene)
    facts = dict(FACTS.get(scene, {}))
    names = set()
    for key in range(24):
        if is_keyed:
            facts["affinity"] = 0x9E3779B9 * (key + 1)
        work = world.embed(**facts) if scene == "embedding" else world.chat(**facts)
        names.add(str(work.place).split()[0])
        world.finish()
    return " ".join(sorted(names))


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_sends_a_request_where_it_says(policy: str, scene: str) -> None:
    expected = SCENES[scene][POLICIES.index(policy)]
    assert _places(policy, scene, is_keyed=False) == expected


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene != "embedding"])
@pytest.mark.parametrize("policy", POLICIES)
def test_what_belongs_together_is_spread_only_where_load_alone_would_decide(
    policy: str, scene: str
) -> None:
    by_rule = SCENES[scene][POLICIES.index(policy)]
    expected = "cheap fast idle" if by_rule == "idle" else by_rule
    assert _places(policy, scene, is_keyed=True) == expected


@pytest.mark.parametrize(("one", "other"), list(combinations(POLICIES, 2)))
def test_no_two_policies_place_alike(one: str, other: str) -> None:
    def found(policy: str) -> list[str]:
        return [_places(policy, scene, is_keyed=False) for scene in SCENES]

    assert found(one) != found(other)


@pytest.mark.parametrize(
    ("one", "other"), [pair for pair in combinations(POLICIES, 2) if pair != POLICIES[-2:]]
)
def test_no_two_policies_place_alike_what_belongs_together(one: str, other: str) -> None:
    """But adaptive and hybrid: they differ in embeddings, which no prefix holds together."""

    def found(policy: str) -> list[str]:
        return [_places(policy, scene, is_keyed=True) for scene in SCENES if scene != "embedding"]

    assert found(one) != found(other)


@pytest.mark.parametrize(
    ("policy", "priority"), [("cost_optimized", 2), ("priority", 0), ("slo_aware", 2)]
)
def test_nobody_is_late_for_the_sake_of_what_he_belongs_to(policy: str, priority: int) -> None:
    slow = engines(1, price=1.0, latency_s=5.0)
    fast = Engine("fast", price=9.0, latency_s=0.1)
    world = World(*slow, fast, policy=policy)
    for key in range(100):
        world.chat(deadline_at=0.5, priority=priority, affinity=0x9E3779B9 * (key + 1))
        assert world.finish().place is fast


# Nor do two order alike: what each does in a handful of situations.


def _order_of_priorities(world: World) -> object:
    for name, priority in (("low", 3), ("high", 0)):
        world.chat(name, priority=priority)
    return world.order()[1:]


def _order_of_deadlines(world: World) -> object:
    world.chat("relaxed", deadline_at=50.0)
    world.chat("tight", deadline_at=0.9)
    return world.order()[1:]


def _order_of_both(world: World) -> object:
    world.chat("relaxed and high", deadline_at=50.0, priority=0)
    world.chat("tight and low", deadline_at=0.9, priority=4)
    return world.order()[1:]


def _calls_of_embeddings(world: World) -> object:
    for _ in range(4):
        world.embed()
    world.finish_all()
    return [texts_of(call) for call in world.history if call.slices]


def _place_by_price(world: World) -> object:
    cheap = Engine("cheap", price=1.0, latency_s=1.0)
    dear = Engine("dear", price=2.0, latency_s=0.1)
    for engine in (dear, cheap):
        engine.limit = engine.capacity = 16
    world.use(dear, cheap)
    world.finish_all()
    places = [world.chat().place for _ in range(4)]
    return sorted(str(place) for place in places)


DIFFER_IN = {
    ("fifo", "priority"): _order_of_priorities,
    ("fifo", "slo_aware"): _order_of_deadlines,
    ("fifo", "cost_optimized"): _place_by_price,
    ("fifo", "adaptive"): _order_of_priorities,
    ("fifo", "hybrid"): _calls_of_embeddings,
    ("priority", "slo_aware"): _order_of_both,
    ("priority", "cost_optimized"): _order_of_priorities,
    ("priority", "adaptive"): _order_of_both,
    ("priority", "hybrid"): _calls_of_embeddings,
    ("slo_aware", "cost_optimized"): _order_of_deadlines,
    ("slo_aware", "adaptive"): _order_of_priorities,
    ("slo_aware", "hybrid"): _calls_of_embeddings,
    ("cost_optimized", "adaptive"): _order_of_priorities,
    ("cost_optimized", "hybrid"): _calls_of_embeddings,
    ("adaptive", "hybrid"): _calls_of_embeddings,
}


def _busy(policy: str) -> World:
    world = World(Engine("e", limit=1), *engines(1, "embedding", limit=1), policy=policy)
    world.chat("running")
    return world


@pytest.mark.parametrize(("one", "other"), list(combinations(POLICIES, 2)))
def test_no_two_policies_are_the_same(one: str, other: str) -> None:
    situation = DIFFER_IN[one, other]
    assert situation(_busy(one)) != situation(_busy(other))


# adaptive and hybrid.


@pytest.mark.parametrize(
    ("facts", "label", "reason"),
    [
        ([{}, {}], "adaptive/fifo", "nothing asks for more"),
        ([{"priority": 0}, {}], "adaptive/priority", "2 different priorities wait"),
        ([{"deadline_at": 9.0}, {"priority": 0}], "adaptive/slo_aware", "have deadlines"),
    ],
)
def test_adaptive_follows_what_waits(facts: list[dict[str, Any]], label: str, reason: str) -> None:
    world = one_by_one("adaptive")
    for own in facts:
        world.chat(**own)
    world.pass_time(1.5)
    lane = world.lane("chat")
    assert (lane.label, reason in lane.reason) == (label, True)


def test_adaptive_saves_money_while_the_pool_is_less_than_half_loaded() -> None:
    world = World(Engine("cheap", price=1.0, limit=10), Engine("dear", price=2.0, limit=10))
    world.use(*world.engines, policy="adaptive")
    lane = world.lane("chat")
    labels = []
    for count in (0, 9, 2, 1):  # in all: 0, 9, 11 and 12 of 20
        for _ in range(count):
            world.chat()
        world.pass_time(1.5)
        labels.append(lane.label.removeprefix("adaptive/"))
    assert labels == ["cost_optimized", "cost_optimized", "cost_optimized", "fifo"]
    world.finish()
    world.pass_time(1.5)
    assert lane.label == "adaptive/fifo", "55 % is not below the lower limit"


def test_adaptive_stands_by_a_choice_for_a_second() -> None:
    world = one_by_one("adaptive")
    world.chat(priority=0)
    world.chat(priority=1)
    lane = world.lane("chat")
    assert lane.label == "adaptive/priority"
    world.finish_all()
    world.pass_time(0.75)
    assert lane.label == "adaptive/priority"
    world.pass_time(0.5)
    assert lane.label == "adaptive/fifo"


def test_hybrid_uses_its_own_policy_for_llm_work_and_arrival_for_embeddings() -> None:
    world = World(
        Engine("e", limit=1),
        *engines(1, "embedding", limit=1),
        llm_policy="priority",
        embedding_batch_size=1,
    )
    world.chat("c0")
    world.embed(name="e0")
    for name, priority in (("1", 4), ("2", 0)):
        world.chat("c" + name, priority=priority)
        world.embed(name="e" + name, priority=priority)
    assert world.lane("chat").label == "hybrid/priority"
    assert world.lane(EMBEDDER).label == "hybrid/fifo"
    order = [str(name) for name in world.order()]
    assert [name for name in order if name[0] == "c"] == ["c0", "c2", "c1"]
    assert [name for name in order if name[0] == "e"] == ["e0", "e1", "e2"]
