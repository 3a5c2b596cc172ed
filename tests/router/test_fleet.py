"""The live state of backends: over swaps of the table, and while they fail."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_server import backend, table_of
from sagepool_router.backend import LiveBackend
from sagepool_router.counters import Counters
from sagepool_router.fleet import SETTLING_S, Fleet, LiveRoute
from sagepool_router.limits import Limits
from sagepool_router.scheduling.concurrency import SlowStart
from sagepool_router.scheduling.scheduler import Scheduler
from sagepool_router.scheduling.settings import SchedulingSettings
from sagepool_router.scheduling.work import Work
from sagepool_router.upstream import CoarseClock

LIMITS = Limits(eject_s=1, eject_max_s=4)


class NoTimer:
    """Nothing here waits."""

    def cancel(self) -> None:
        """Nothing to cancel."""


def empty_fleet(clock: CoarseClock) -> Fleet:
    scheduler: Scheduler[LiveBackend] = Scheduler(
        SchedulingSettings(),
        start=lambda call: None,
        cut=lambda work: None,
        clock=lambda: clock.now,
        random=random.Random(1).random,
        call_later=lambda delay_s, callback: NoTimer(),
    )
    return Fleet(LIMITS, clock, Counters(), scheduler)


def fleet_of(count: int, *, limit: int = 4) -> tuple[Fleet, LiveRoute, CoarseClock]:
    clock = CoarseClock()
    fleet = empty_fleet(clock)
    fleet.swap(table_of(*(backend(i + 1, instance=f"i{i}", limit=limit) for i in range(count))))
    route = fleet.routes.get("ok")
    assert route is not None
    return fleet, route, clock


def choose(route: LiveRoute, *tried: LiveBackend) -> LiveBackend | None:
    """Where a request would go, as the dispatcher asks."""
    choice = route.lane.choose(Work("llm", route.model, 0.0), 0.0, tried)
    return choice.place if choice is not None else route.last_resort(tried)


def chosen(route: LiveRoute, *tried: LiveBackend) -> LiveBackend:
    found = choose(route, *tried)
    assert found is not None
    return found


def states(fleet: Fleet) -> list[str]:
    return [load.state for load in fleet.loads()]


def test_a_failed_connect_leaves_the_backend_out_at_once() -> None:
    fleet, route, _ = fleet_of(2)
    bad = chosen(route)
    bad.failed(is_connect=True)
    assert sorted(states(fleet)) == ["available", "ejected"]
    assert all(chosen(route) is not bad for _ in range(20))


def test_other_failures_leave_it_out_when_there_are_three_in_a_row() -> None:
    fleet, route, _ = fleet_of(2)
    bad = chosen(route)
    for _ in range(2):
        bad.failed(is_connect=False)
    bad.succeeded()
    for _ in range(2):
        bad.failed(is_connect=False)
    assert states(fleet) == ["available", "available"]
    bad.failed(is_connect=False)
    assert sorted(states(fleet)) == ["available", "ejected"]


def test_after_a_while_it_is_tried_with_one_request_and_is_back_when_that_succeeds() -> None:
    fleet, route, clock = fleet_of(2)
    bad = chosen(route)
    other = chosen(route, bad)
    bad.failed(is_connect=True)
    clock.now = 1.0
    fleet.sweep()
    assert (bad.state, bad.capacity) == ("probation", 1)
    assert chosen(route, other) is bad
    bad.charge()
    assert choose(route, other) is None
    bad.succeeded()
    assert (bad.state, bad.capacity) == ("available", 4)


def test_each_failure_in_a_row_doubles_the_time_up_to_a_limit() -> None:
    fleet, route, clock = fleet_of(2)
    bad = chosen(route)
    pauses = []
    for _ in range(5):
        bad.failed(is_connect=True)
        started = clock.now
        while bad.state == "ejected":
            clock.now += 0.5
            fleet.sweep()
        pauses.append(clock.now - started)
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]


def test_the_speed_of_an_idle_instance_is_forgotten_also_of_calls_that_no_sweep_has_seen() -> None:
    fleet, route, _ = fleet_of(1)
    found = chosen(route)

    def idle(sweeps: int) -> None:
        for _ in range(sweeps):
            fleet.sweep()

    idle(500)
    found.charge()
    found.completed(0.01, 20)
    found.release()
    idle(100)
    assert found.tokens_per_s > 0
    idle(100)
    assert found.tokens_per_s == 0


def test_while_all_have_failed_they_are_tried_all_the_same() -> None:
    _, route, _ = fleet_of(2)
    first = chosen(route)
    second = chosen(route, first)
    for bad in (first, second):
        bad.failed(is_connect=True)
    assert chosen(route) in (first, second)
    assert chosen(route, first) is second
    assert choose(route, first, second) is None


def test_while_all_have_failed_each_is_tried_with_one_request_at_a_time() -> None:
    _, route, _ = fleet_of(2, limit=9)
    for bad in route.members:
        bad.failed(is_connect=True)
    first = chosen(route)
    first.charge()
    second = chosen(route)
    assert second is not first
    second.charge()
    assert choose(route) is None
    first.failed(is_connect=True)
    first.release()
    assert chosen(route) is first
    second.succeeded()
    second.release()
    assert chosen(route) is second


@pytest.mark.parametrize("waits", [False, True])
def test_what_an_instance_had_before_it_failed_is_no_trial(waits: bool) -> None:
    fleet, route, clock = fleet_of(1, limit=9)
    bad = chosen(route)
    for _ in range(3):
        bad.charge()
    bad.failed(is_connect=True)
    if waits:
        clock.now = 10
        fleet.sweep()
        assert bad.state == "probation"
    chosen(route).charge()
    assert choose(route) is None
    bad.release()
    assert choose(route) is None, "one of the earlier ones has ended"
    bad.failed(is_connect=True)
    bad.release()
    assert chosen(route) is bad, "the trial has ended"


def test_what_failed_last_is_known_also_after_a_swap() -> None:
    fleet, route, _ = fleet_of(2)
    first, second = route.members
    first.failed("cannot connect", is_connect=True)
    second.failed("it was silent", is_connect=False)
    fleet.swap(table_of(*(backend(i + 1, instance=f"i{i}") for i in range(2)), version=2))
    assert fleet.routes["ok"].standing.last_failure == "instance i1: it was silent"


def test_a_backend_at_its_limit_is_not_a_backend_that_failed() -> None:
    _, route, _ = fleet_of(1, limit=1)
    chosen(route).charge()
    assert choose(route) is None


def test_models_of_the_same_backends_share_their_load() -> None:
    fleet = empty_fleet(CoarseClock())
    both = ("base", "adapter")
    fleet.swap(
        table_of(
            backend(1, instance="a", models=both),
            backend(2, instance="b", models=both),
            backend(3, instance="c", models=("base",)),
        )
    )
    base, adapter = fleet.routes.get("base"), fleet.routes.get("adapter")
    assert base is not None
    assert adapter is not None
    first = chosen(adapter)
    first.charge()
    assert chosen(adapter) is not first
    assert all(chosen(base) is not first for _ in range(20))


def test_a_swap_keeps_load_and_health_of_those_that_stay() -> None:
    fleet, route, _ = fleet_of(3)
    busy = chosen(route)
    busy.charge()
    sick = chosen(route)
    sick.failed(is_connect=True)
    table = table_of(*(backend(i + 1, instance=f"i{i}", limit=9) for i in range(3)), version=2)
    fleet.swap(table)
    assert fleet.table.version == 2
    again = fleet.routes.get("ok")
    assert again is not None
    assert chosen(again) not in (busy, sick)
    assert (busy.in_flight, busy.capacity) == (1, 9)
    assert sick.state == "ejected"
    busy.release()
    assert sorted(load.in_flight for load in fleet.loads()) == [0, 0, 0]


def test_a_backend_that_is_gone_can_still_be_given_back() -> None:
    fleet, route, _ = fleet_of(2)
    gone = chosen(route)
    gone.charge()
    left = [b for b in ("i0", "i1") if b != gone.facts.instance]
    port = 1 if left == ["i0"] else 2
    fleet.swap(table_of(backend(port, instance=left[0]), version=2))
    gone.failed(is_connect=True)
    gone.release()
    gone.succeeded()
    assert (gone.state, gone.in_flight) == ("retired", 0)
    assert [load.instance for load in fleet.loads()] == left


def test_an_instance_that_was_made_anew_starts_anew() -> None:
    fleet, route, _ = fleet_of(1)
    chosen(route).failed(is_connect=True)
    fleet.swap(table_of(backend(7, instance="i0"), version=2))
    assert states(fleet) == ["available"]


def capacities(fleet: Fleet) -> dict[str, int]:
    return {load.instance: load.capacity for load in fleet.loads()}


def test_engines_that_a_router_finds_when_it_starts_are_not_eased_in() -> None:
    clock = CoarseClock()
    fleet = empty_fleet(clock)
    found = [backend(i + 1, instance=f"i{i}", limit=40) for i in range(3)]
    for count in range(len(found) + 1):
        fleet.swap(table_of(*found[:count], version=count + 1))
        clock.now += SETTLING_S / 4
    assert capacities(fleet) == {"i0": 40, "i1": 40, "i2": 40}


def test_an_engine_that_joins_later_is_eased_in() -> None:
    clock = CoarseClock()
    fleet = empty_fleet(clock)
    fleet.swap(table_of(backend(1, instance="i0", limit=40)))
    clock.now = SETTLING_S
    both = (backend(i + 1, instance=f"i{i}", limit=40) for i in range(2))
    fleet.swap(table_of(*both, version=2))
    assert capacities(fleet) == {"i0": 40, "i1": SlowStart.AT_LEAST}


def test_engines_that_come_when_there_is_none_are_not_eased_in() -> None:
    fleet, _, clock = fleet_of(2, limit=40)
    clock.now = 100.0
    fleet.swap(table_of(version=2))
    both = (backend(i + 7, instance=f"i{i}", limit=40) for i in range(2))
    fleet.swap(table_of(*both, version=3))
    assert capacities(fleet) == {"i0": 40, "i1": 40}


def test_one_address_in_two_roles_is_counted_apart() -> None:
    fleet = empty_fleet(CoarseClock())
    fleet.swap(table_of(backend(1), backend(1, role="embedding", models=("e",))))
    assert len(fleet.loads()) == 2


def test_a_new_price_counts_from_the_next_table_on() -> None:
    fleet = empty_fleet(CoarseClock())
    found: list[str] = []
    for prices in ((1.0, 2.0), (3.0, 2.0)):
        members = (backend(i + 1, instance=f"i{i}") for i in range(2))
        fleet.swap(
            table_of(*(replace(m, price_per_hour=p) for m, p in zip(members, prices, strict=True)))
        )
        placement = fleet.routes["ok"].lane.placement
        choice = placement.choose(Work("llm", "ok", 0.0), "cheapest", 0.0)
        assert choice is not None
        found.append(choice.place.name)
    assert found == ["i0", "i1"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["place", "end", "fail", "tick", "swap"]), st.integers(0, 3)),
        max_size=150,
    )
)
def test_every_charge_is_released_whatever_fails(steps: list[tuple[str, int]]) -> None:
    fleet, _, clock = fleet_of(4)
    placed: list[LiveBackend] = []
    for action, number in steps:
        route = fleet.routes.get("ok")
        assert route is not None
        if action == "place":
            found = choose(route, *placed[:number])
            if found is not None:
                assert found.in_flight < found.facts.limit
                assert found not in placed[:number]
                found.charge()
                placed.append(found)
        elif action == "end" and placed:
            ended = placed.pop(number % len(placed))
            ended.succeeded()
            ended.release()
        elif action == "fail" and placed:
            failed = placed.pop(number % len(placed))
            failed.failed(is_connect=number % 2 == 0)
            failed.release()
        elif action == "tick":
            clock.now += 0.7
            fleet.sweep()
        elif action == "swap":
            kept = (backend(i + 1, instance=f"i{i}", limit=4) for i in range(4) if i != number)
            fleet.swap(table_of(*kept))
        assert all(load.in_flight >= 0 for load in fleet.loads())
        known = fleet.routes.get("ok")
        assert known is not None
        assert known.standing.healthy == states(fleet).count("available")
    for member in placed:
        member.release()
    assert all(load.in_flight == 0 for load in fleet.loads())
