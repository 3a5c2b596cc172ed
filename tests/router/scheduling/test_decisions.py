"""The log of decisions: what it keeps of each, and how much of it."""

import asyncio
import random
from math import ceil
from typing import Any

import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.api.scheduling import build_scheduling_routes
from sagepool_router.scheduling.decisions import KEPT, Decision
from sagepool_router.scheduling.placement import latency_class
from sagepool_router.scheduling.work import Work
from scheduling_world import Engine, EngineCall, World, engines


class Logged(World):
    """A world that notes every call as it starts."""

    def __init__(self, *members: Engine, **changes: Any) -> None:
        super().__init__(*members, on_start=self.note, **changes)

    def note(self, call: EngineCall) -> None:
        self.scheduler.log.add(call, str(call.work.owner).encode())

    def decide(self, **facts: Any) -> Decision:
        """What is noted of a chat that comes a second later."""
        self.clock.advance(1.0)
        self.chat(**facts)
        return self.scheduler.log.kept[-1]


def engine(name: str, in_flight: int = 0, **facts: Any) -> Engine:
    found = Engine(name, **facts)
    found.in_flight = in_flight
    return found


def scores(decision: Decision) -> dict[str, float]:
    """Of the listed ones, in their order."""
    return {option.name: option.score for option in decision.options}


def test_a_decision_says_who_was_placed_where_and_why() -> None:
    world = Logged(Engine("e", limit=1), policy="fifo")
    world.chat("first")
    world.chat("second", priority=1)
    world.pass_time(0.5)
    world.finish()
    kept = world.scheduler.log.kept[-1]
    assert (kept.request_id, kept.kind, kept.model, kept.priority) == (b"second", "llm", "chat", 1)
    assert (kept.place, kept.policy, kept.reason) == ("e", "fifo", "least_loaded")
    assert (kept.at, kept.waited_s) == (0.5, 0.5)


# Who is listed, and by what they were compared.


def test_candidates_are_listed_as_they_were_before_the_call() -> None:
    world = Logged(*engines(3, limit=5), policy="fifo")
    for turn in range(3):
        decision = world.decide()
        chosen, *_ = decision.options
        assert (chosen.name, chosen.in_flight, chosen.score) == (decision.place, 0, 0)
        assert sum(option.in_flight for option in decision.options) == turn
        assert sorted(scores(decision).values()) == [0] * (3 - turn) + [5] * turn


def test_by_load_a_request_without_its_first_byte_counts_five() -> None:
    world = Logged(engine("a"), engine("b", 3), policy="fifo")
    world.chat()
    world.scheduler.answered(world.calls[0])
    assert scores(world.decide()) == {"a": 1, "b": 3}
    assert scores(world.decide()) == {"b": 3, "a": 6}


def test_by_latency_the_score_is_the_expected_one() -> None:
    slow, fast = engine("slow", 1, latency_s=1.0), engine("fast", 2, latency_s=0.1)
    decision = Logged(slow, fast, policy="slo_aware").decide()
    assert decision.reason == "lowest_latency"
    expected = {"fast": latency_class(0.1) + 2, "slow": latency_class(1.0) + 1}
    assert list(scores(decision).items()) == list(expected.items())


def test_by_price_the_score_is_the_price_of_a_token() -> None:
    dear = engine("dear", price=7.2, tokens_per_s=1000.0)
    cheap = engine("cheap", 5, price=3.6, tokens_per_s=2000.0)
    decision = Logged(dear, cheap, policy="cost_optimized").decide()
    assert decision.reason == "cheapest"
    assert list(scores(decision)) == ["cheap", "dear"]
    assert scores(decision) == pytest.approx({"cheap": 0.5e-6, "dear": 2e-6})


def test_where_nobody_is_in_time_the_score_is_the_latency_of_what_is_within_the_budget() -> None:
    members = [
        engine(f"{price} {number}", number, price=price, latency_s=latency_s)
        for price, latency_s in ((1.0, 5.0), (2.0, 2.0), (50.0, 1.0))
        for number in range(2)
    ]
    decision = Logged(*members, policy="cost_optimized").decide(
        tokens=1000, deadline_at=1.5, budget=5 / 3600
    )
    assert decision.reason == "fastest_in_budget"
    assert list(scores(decision).items()) == [("2.0 0", 2.0), ("1.0 0", 5.0)]


def test_by_affinity_the_score_is_what_was_in_flight_beside_the_bound() -> None:
    world = Logged(*engines(4), policy="fifo")
    decisions = [world.decide(affinity=1) for _ in range(20)]
    assert {decision.reason for decision in decisions} == {"affinity"}
    for turn, decision in enumerate(decisions):
        assert decision.bound == ceil(1.25 * (turn + 1) / 4)
        assert [option.score for option in decision.options] == [
            option.in_flight for option in decision.options
        ]
        assert decision.options[0].score < decision.bound
    assert world.decide().bound is None


def test_by_affinity_and_price_the_bound_is_that_of_the_cheapest() -> None:
    cheap = [engine(f"cheap {number}", 9, price=1.0) for number in range(2)]
    world = Logged(*cheap, *engines(6, price=2.0), policy="cost_optimized")
    decision = world.decide(affinity=1)
    assert (decision.reason, decision.bound) == ("affinity", ceil(1.25 * 19 / 2))
    assert scores(decision) == {"cheap 0": 9, "cheap 1": 9}


def test_of_a_retry_the_scores_are_those_of_the_policys_rule() -> None:
    fast, slow = engine("fast", latency_s=0.1), engine("slow", latency_s=1.0)
    world = Logged(fast, slow, policy="slo_aware")
    world.chat()
    (call,) = world.calls
    world.clock.advance(1.0)
    assert world.retry(call, [fast])
    world.note(call)
    decision = world.scheduler.log.kept[-1]
    assert (decision.reason, decision.place) == ("retry", "slow")
    assert scores(decision) == {"slow": latency_class(1.0), "fast": latency_class(0.1)}


@pytest.mark.parametrize("reason", ["last_resort", "cloud_absent"])
def test_a_place_that_no_rule_chose_is_listed_with_those_that_one_could_have(reason: str) -> None:
    world = Logged(*engines(2), policy="fifo")
    place = Engine("elsewhere") if reason == "cloud_absent" else world.engines[1]
    world.scheduler.force(world.lane("chat"), Work("llm", "chat", 0.0), place, reason)
    decision = world.scheduler.log.kept[-1]
    assert (decision.options[0].name, decision.options[0].in_flight) == (place.name, 0)
    assert {e.name for e in world.engines} | {place.name} == set(scores(decision))


def test_the_best_sixteen_that_have_room_are_listed_and_the_chosen_one_is_first() -> None:
    members = [engine(f"e{number}", number) for number in range(100)]
    random.Random(1).shuffle(members)
    full = [engine("full", 1, limit=1), engine("out", limit=0)]
    decision = Logged(*full, *members, policy="fifo").decide()
    assert [option.name for option in decision.options] == [f"e{number}" for number in range(16)]


def test_who_has_no_room_after_the_call_is_listed_as_the_chosen_one() -> None:
    world = Logged(engine("e", limit=1), engine("full", 1, limit=1), policy="fifo")
    assert [(o.name, o.in_flight) for o in world.decide().options] == [("e", 0)]


def test_specialised_ones_are_listed_before_the_others_while_they_have_room() -> None:
    pure = [engine(f"pure {number}", 30, limit=30 + number) for number in range(4)]
    shared = [engine(f"shared {number}", number, is_specialized=False) for number in range(20)]
    decision = Logged(*shared, *pure, policy="fifo").decide()
    names = [option.name for option in decision.options]
    assert decision.reason == "specialized"
    assert set(names[:3]) == {"pure 1", "pure 2", "pure 3"}
    assert names[3:] == [f"shared {number}" for number in range(13)]


@given(policy=st.sampled_from(("fifo", "slo_aware", "cost_optimized")), seed=st.integers())
def test_nobody_that_is_listed_has_a_better_score_than_the_chosen_one(
    policy: str, seed: int
) -> None:
    chance = random.Random(seed)
    members = [
        engine(
            f"e{number}",
            chance.randrange(20),
            limit=chance.randrange(40),
            price=float(chance.randrange(3)),
            latency_s=chance.random(),
        )
        for number in range(chance.randrange(1, 40))
    ]
    world = Logged(*members, policy=policy)
    for _ in range(8):
        world.clock.advance(1.0)
        if world.chat().state == "waiting":
            return
        chosen, *others = world.scheduler.log.kept[-1].options
        assert chosen.score == min([chosen.score, *(option.score for option in others)])
        assert chosen.name not in {option.name for option in others}
        ranks = [option.score for option in others]
        assert ranks == sorted(ranks)


def test_people_are_shown_the_scores_and_the_bound() -> None:
    world = Logged(*engines(2), policy="fifo")
    decision = world.decide(affinity=1)
    routes = build_scheduling_routes(world.scheduler, dict, world.clock.time).routes
    (show,) = [r for r in routes if isinstance(r, APIRoute) and r.path == "/admin/decisions"]
    (shown,) = asyncio.run(show.endpoint(5))
    assert (shown.reason, shown.bound) == ("affinity", 1)
    found = [(option.instance, option.score) for option in shown.candidates]
    assert found == [(option.name, 0) for option in decision.options]


# How much is kept.


def test_candidates_are_listed_fifty_times_a_second_at_most() -> None:
    world = Logged(*engines(2), policy="fifo")
    for _ in range(1000):
        world.clock.advance(0.001)
        world.chat()
        world.finish()
    assert len([kept for kept in world.scheduler.log.kept if kept.options]) == 50


def test_candidates_among_very_many_are_listed_less_often() -> None:
    world = Logged(*engines(500), policy="fifo")
    for _ in range(1000):
        world.clock.advance(0.001)
        world.chat()
        world.finish()
    assert len([kept for kept in world.scheduler.log.kept if kept.options]) == 10


def test_the_last_thousand_are_kept_and_all_are_counted() -> None:
    world = Logged(*engines(2), policy="fifo")
    for _ in range(KEPT + 5):
        world.decide()
        world.finish()
    log = world.scheduler.log
    assert [kept.at for kept in log.kept] == [float(i) for i in range(6, KEPT + 6)]
    assert log.counts == {("fifo", "least_loaded"): KEPT + 5}
