"""How many engines a group should have: what decides, and what never happens."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagepool_crds.scaling import Scaling
from sagepool_operator.autoscaling.decision import Decision, Engines, Window, decide
from sagepool_operator.autoscaling.demand import Demand, add, slowest_tenth_s


def scaling(**fields: Any) -> Scaling:
    """Between 1 and 10 engines, 10 calls in flight each; `fields` replace those of the spec."""
    spec = {"minReplicas": 1, "maxReplicas": 10, "target": {"inFlight": 10}, **fields}
    return Scaling.model_validate(spec)


def running(count: int, *, ready: int | None = None, warm: int | None = None) -> Engines:
    """So many engines, all of them warm unless the test says otherwise."""
    ready = count if ready is None else ready
    return Engines(count, ready, ready if warm is None else warm)


def once(wanted: Scaling, engines: Engines, demand: Demand) -> Decision:
    """The decision where nothing is known of before."""
    return decide(wanted, engines, demand, Window(), 0.0)


class TestCallsInFlight:
    @pytest.mark.parametrize(
        ("engines", "in_flight", "waiting", "expected"),
        [
            (1, 10, 0, 1),
            (1, 11, 0, 1),  # a tenth more changes nothing
            (1, 12, 0, 2),
            (2, 20, 30, 5),  # what waits has to be served too
            (2, 500, 0, 10),  # maxReplicas
            (4, 41, 0, 4),
        ],
    )
    def test_engines_are_as_many_as_the_calls_take(
        self, engines: int, in_flight: int, waiting: int, expected: int
    ) -> None:
        demand = Demand(in_flight=in_flight, queued_requests=waiting)
        assert once(scaling(), running(engines), demand).replicas == expected

    def test_the_reason_says_what_was_counted(self) -> None:
        decision = once(scaling(), running(1), Demand(in_flight=25, queued_requests=7))
        assert decision == Decision(4, "32 requests in flight or waiting, 10 an engine")


class TestQueue:
    WANTED = scaling(target={"queuedTexts": 100})

    def test_each_target_that_waits_is_one_engine_more(self) -> None:
        demand = Demand(in_flight=8, capacity=8, queued_requests=9, queued_texts=250)
        assert once(self.WANTED, running(2), demand) == Decision(
            4, "250 texts wait, 100 for one engine more"
        )

    def test_less_than_the_target_may_wait(self) -> None:
        demand = Demand(in_flight=8, capacity=8, queued_requests=9, queued_texts=99)
        assert once(self.WANTED, running(2), demand).replicas == 2

    def test_engines_that_are_coming_up_are_not_asked_for_twice(self) -> None:
        demand = Demand(in_flight=8, capacity=8, queued_requests=9, queued_texts=250)
        window = Window()
        for engines in (running(2), running(4, ready=2), running(4, ready=4, warm=2)):
            assert decide(self.WANTED, engines, demand, window, 1.0).replicas == 4

    def test_none_of_them_goes_while_they_are_coming_up(self) -> None:
        wanted = scaling(target={"queuedTexts": 100}, scaleDownAfterSeconds=0)
        demand = Demand(in_flight=8, capacity=8, queued_requests=9, queued_texts=100)
        window = Window()
        for t, engines in enumerate((running(4, ready=2), running(4, ready=4, warm=2))):
            assert decide(wanted, engines, demand, window, float(t)).replicas == 4

    def test_what_still_waits_when_they_are_warm_asks_for_more(self) -> None:
        demand = Demand(in_flight=16, capacity=16, queued_requests=9, queued_texts=120)
        assert once(self.WANTED, running(4), demand).replicas == 5

    def test_requests_count_by_a_target_of_their_own(self) -> None:
        wanted = scaling(target={"queuedRequests": 5})
        assert once(wanted, running(1), Demand(queued_requests=11)).replicas == 3

    def test_an_engine_without_which_the_others_have_room_goes(self) -> None:
        window = Window()
        now = Demand(in_flight=4, capacity=40)
        decide(self.WANTED, running(4), now, window, 0.0)
        assert decide(self.WANTED, running(4), now, window, 301.0).replicas == 1

    def test_engines_stay_while_the_others_would_be_nearly_full(self) -> None:
        window = Window()
        now = Demand(in_flight=22, capacity=40)
        decide(self.WANTED, running(4), now, window, 0.0)
        assert decide(self.WANTED, running(4), now, window, 301.0).replicas == 4


class TestTimeToFirstToken:
    WANTED = scaling(target={"ttftMs": 500})

    @pytest.mark.parametrize(
        ("ttft_s", "expected"),
        [
            (0.50, 2),
            (0.54, 2),  # a tenth more changes nothing
            (0.60, 3),
            (9.00, 4),  # at most twice as many
        ],
    )
    def test_late_tokens_ask_for_engines(self, ttft_s: float, expected: int) -> None:
        demand = Demand(in_flight=20, capacity=20, ttft_s=ttft_s)
        assert once(self.WANTED, running(2), demand).replicas == expected

    def test_nothing_is_judged_while_engines_are_coming_up(self) -> None:
        demand = Demand(in_flight=20, capacity=20, ttft_s=9.0)
        assert once(self.WANTED, running(2, warm=1), demand).replicas == 2

    @pytest.mark.parametrize(("ttft_s", "expected"), [(0.40, 4), (0.30, 1)])
    def test_engines_go_only_while_tokens_come_well_in_time(
        self, ttft_s: float, expected: int
    ) -> None:
        window = Window()
        demand = Demand(in_flight=2, capacity=40, ttft_s=ttft_s)
        decide(self.WANTED, running(4), demand, window, 0.0)
        assert decide(self.WANTED, running(4), demand, window, 301.0).replicas == expected

    def test_nine_of_ten_answers_are_read_from_a_histogram(self) -> None:
        assert slowest_tenth_s((0.1, 0.5, 1.0), (0, 10, 0, 0)) == pytest.approx(0.46)
        assert slowest_tenth_s((0.1, 0.5, 1.0), (80, 0, 20, 0)) == pytest.approx(0.75)
        assert slowest_tenth_s((0.1, 0.5, 1.0), (0, 0, 0, 50)) == 1.0

    def test_few_answers_say_nothing(self) -> None:
        assert slowest_tenth_s((0.1, 0.5), (0, 0, 9)) is None


def test_of_several_targets_the_one_that_asks_for_most_wins() -> None:
    wanted = scaling(target={"inFlight": 10, "queuedTexts": 100})
    demand = Demand(in_flight=10, capacity=10, queued_requests=4, queued_texts=700)
    assert once(wanted, running(1), demand).replicas == 8


class TestDown:
    QUIET = Demand(in_flight=1, capacity=100)

    def test_takes_a_whole_window_in_which_no_more_were_needed(self) -> None:
        window = Window()
        wanted = scaling(scaleDownAfterSeconds=60)
        decide(wanted, running(5), Demand(in_flight=50), window, 0.0)
        found = [decide(wanted, running(5), self.QUIET, window, t).replicas for t in (1, 60, 61)]
        assert found == [5, 5, 1]

    def test_stops_at_the_highest_need_of_the_window(self) -> None:
        window = Window()
        wanted = scaling(scaleDownAfterSeconds=60)
        decide(wanted, running(5), Demand(in_flight=50), window, 0.0)
        decide(wanted, running(5), Demand(in_flight=30), window, 30.0)
        assert decide(wanted, running(5), self.QUIET, window, 61.0).replicas == 3

    def test_never_while_a_router_is_silent(self) -> None:
        window = Window()
        half = replace(self.QUIET, is_whole=False)
        for t in range(0, 1000, 100):
            assert decide(scaling(), running(5), half, window, t).replicas == 5

    def test_after_a_restart_of_the_operator_what_runs_counts_as_needed(self) -> None:
        window = Window()
        found = [
            decide(scaling(), running(5), self.QUIET, window, t).replicas for t in (0, 300, 301)
        ]
        assert found == [5, 5, 1]


class TestZero:
    WANTED = scaling(minReplicas=0, idleToZeroSeconds=120, scaleDownAfterSeconds=600)

    def test_all_go_once_nobody_has_asked_for_long_enough(self) -> None:
        assert once(self.WANTED, running(3), Demand(idle_s=119)).replicas == 3
        assert once(self.WANTED, running(3), Demand(idle_s=120)) == Decision(
            0, "nobody has asked for 120 s"
        )

    @pytest.mark.parametrize(
        "demand",
        [
            Demand(idle_s=500, in_flight=1),
            Demand(idle_s=500, queued_requests=1),
            Demand(idle_s=500, is_whole=False),
        ],
    )
    def test_the_last_one_stays_while_it_may_be_needed(self, demand: Demand) -> None:
        assert once(self.WANTED, running(1), demand).replicas == 1

    def test_load_alone_never_takes_the_last_one(self) -> None:
        window = Window()
        for t in range(0, 3000, 100):
            assert decide(self.WANTED, running(1), Demand(idle_s=60), window, t).replicas == 1

    def test_a_group_that_keeps_one_never_goes_to_zero(self) -> None:
        assert once(scaling(), running(1), Demand(idle_s=1e6)).replicas == 1

    def test_a_request_that_waits_brings_the_first_one_at_once(self) -> None:
        demand = Demand(queued_requests=1, unmet_s=0.1)
        assert once(self.WANTED, running(0), demand) == Decision(
            1, "1 requests wait and no engine runs"
        )

    def test_many_that_wait_bring_as_many_as_they_take(self) -> None:
        demand = Demand(queued_requests=35, unmet_s=0.1)
        assert once(self.WANTED, running(0), demand).replicas == 4

    def test_a_request_that_the_provider_answered_brings_one_too(self) -> None:
        assert once(self.WANTED, running(0), Demand(unmet_s=5.0)).replicas == 1

    def test_one_that_is_long_gone_does_not(self) -> None:
        assert once(self.WANTED, running(0), Demand(unmet_s=60.0)).replicas == 0

    def test_a_router_that_has_just_started_wants_nothing(self) -> None:
        assert once(self.WANTED, running(0), Demand(idle_s=0.0)).replicas == 0

    def test_engines_that_should_be_there_come_without_being_asked_for(self) -> None:
        assert once(scaling(minReplicas=2), running(0), Demand()).replicas == 2


def test_routers_add_up_and_the_last_request_of_any_counts() -> None:
    one = Demand(in_flight=3, capacity=8, queued_requests=1, queued_texts=10, idle_s=50)
    other = Demand(in_flight=4, capacity=8, queued_requests=2, idle_s=7, unmet_s=9.0)
    assert add([one, other], 0.3, is_whole=True) == Demand(7, 16, 3, 10, 7, 9.0, 0.3, True)


def test_without_any_router_nothing_is_known() -> None:
    assert not add([], None, is_whole=True).is_whole


# What never happens.

SCALINGS = st.builds(
    lambda least, more, target, down, zero: scaling(
        minReplicas=least,
        maxReplicas=least + more,
        target=target,
        scaleDownAfterSeconds=down,
        **({"idleToZeroSeconds": zero} if least == 0 else {}),
    ),
    st.integers(0, 5),
    st.integers(1, 20),
    st.dictionaries(
        st.sampled_from(["inFlight", "queuedRequests", "queuedTexts", "ttftMs"]),
        st.integers(1, 300),
        min_size=1,
    ),
    st.integers(0, 600),
    st.integers(1, 900),
)
DEMANDS = st.builds(
    Demand,
    in_flight=st.integers(0, 500),
    capacity=st.integers(0, 500),
    queued_requests=st.integers(0, 500),
    queued_texts=st.integers(0, 5000),
    idle_s=st.floats(0, 2000),
    unmet_s=st.none() | st.floats(0, 2000),
    ttft_s=st.none() | st.floats(0, 60),
    is_whole=st.booleans(),
)


@given(SCALINGS, st.lists(st.tuples(DEMANDS, st.floats(0.1, 500)), max_size=12))
def test_there_are_never_fewer_than_the_least_nor_more_than_the_most(
    wanted: Scaling, story: list[tuple[Demand, float]]
) -> None:
    window, now_s, count = Window(), 0.0, wanted.least
    for demand, later_s in story:
        now_s += later_s
        count = decide(wanted, running(count), demand, window, now_s).replicas
        assert wanted.least <= count <= wanted.most


@given(SCALINGS, st.integers(1, 30), DEMANDS, st.lists(DEMANDS, max_size=5))
def test_a_need_is_met_at_once_whatever_was_before(
    wanted: Scaling, count: int, demand: Demand, before: list[Demand]
) -> None:
    window = Window()
    for i, earlier in enumerate(before):
        decide(wanted, running(count), earlier, window, float(i))
    fresh = once(wanted, running(count), demand).replicas
    if fresh > count:
        assert decide(wanted, running(count), demand, window, 10.0).replicas == fresh


@dataclass
class Plant:
    """A group in time: engines of a fixed capacity come up slowly, the rest of the load waits."""

    wanted: Scaling
    load: int
    capacity: int
    load_s: float = 45.0
    count: int = 1
    now_s: float = 0.0
    window: Window = field(default_factory=Window)
    started: list[float] = field(default_factory=lambda: [-100.0])
    counts: list[int] = field(default_factory=list)

    def step(self) -> None:
        """One second."""
        self.now_s += 1.0
        ages = [self.now_s - at - self.load_s for at in self.started]
        ready, warm = sum(a >= 0 for a in ages), sum(a >= 30 for a in ages)
        served = min(self.load, ready * self.capacity)
        demand = Demand(
            in_flight=served,
            capacity=ready * self.capacity,
            queued_requests=self.load - served,
            queued_texts=10 * (self.load - served),
        )
        engines = Engines(self.count, ready, warm)
        self.count = decide(self.wanted, engines, demand, self.window, self.now_s).replicas
        del self.started[self.count :]
        self.started += [self.now_s] * (self.count - len(self.started))
        self.counts.append(self.count)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(["inFlight", "queuedRequests", "queuedTexts"]),
    st.integers(1, 40),
    st.integers(0, 200),
    st.integers(1, 30),
    st.integers(0, 400),
)
def test_a_steady_load_makes_engines_come_to_rest(
    signal: str, target: int, load: int, capacity: int, down: int
) -> None:
    wanted = scaling(maxReplicas=50, target={signal: target}, scaleDownAfterSeconds=down)
    plant = Plant(wanted, load, capacity)
    # At worst engines come one by one, each when the one before is warm: 49 of them in 75 s each.
    for _ in range(5000):
        plant.step()
    tail = plant.counts[-1000:]
    assert set(tail) == {tail[0]}


@pytest.mark.parametrize("signal", ["inFlight", "queuedRequests"])
def test_a_load_that_comes_and_goes_within_the_window_moves_nothing(signal: str) -> None:
    plant = Plant(scaling(target={signal: 5}, maxReplicas=20), load=60, capacity=5)
    for _ in range(600):
        plant.step()
    settled = plant.count
    assert settled >= 12
    for second in range(1200):
        plant.load = 60 if second % 120 < 60 else 10
        plant.step()
    assert set(plant.counts[-1200:]) == {settled}
