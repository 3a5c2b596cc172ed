"""Shares of a backlog by flow, seen from the queue that they order."""

from collections import Counter

import pytest

from sagepool_router.scheduling.fair_share import FairShare
from sagepool_router.scheduling.waiting_queue import WaitingQueue
from sagepool_router.scheduling.work import Work
from scheduling_world import Engine, World


class Backlog:
    """A queue whose work is served one by one, a hundredth of a second each."""

    def __init__(self) -> None:
        self.shares = FairShare()
        self.queue: WaitingQueue[Engine] = WaitingQueue(self.shares)
        self.now = 0.0

    def add(
        self, flow: str, *, tokens: int = 100, weight: float = 1.0, priority: int = 0
    ) -> Work[Engine]:
        work: Work[Engine] = Work(
            "llm", "m", self.now, flow=flow, tokens=tokens, weight=weight, priority=priority
        )
        work.start_tag = self.shares.charge(flow, weight, tokens)
        self.queue.push(work, 10.0 * priority)
        return work

    def serve(self) -> Work[Engine]:
        work = self.queue.peek()
        assert work is not None
        self.shares.advance(work.start_tag, work.tokens, work.weight)
        self.queue.take(work)
        self.now += 0.01
        self.shares.measure(self.now)
        if self.queue.count and self.queue.is_mistimed:
            self.queue.rerank(lambda w: 10.0 * w.priority)
        return work


@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.5), (2.0, 2 / 3), (0.5, 1 / 3)])
def test_two_backlogged_flows_share_by_weight(weight: float, share: float) -> None:
    backlog = Backlog()
    for _ in range(300):
        backlog.add("a", weight=weight)
    for _ in range(300):
        backlog.add("b")
    served = Counter(backlog.serve().flow for _ in range(150))
    assert served["a"] / 150 == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_flows_with_one_request_at_a_time_share_by_weight_too(weight: float) -> None:
    backlog = Backlog()
    for _ in range(4):
        backlog.add("a", weight=weight)
        backlog.add("b")
    served: Counter[str] = Counter()
    for _ in range(400):
        work = backlog.serve()
        served[work.flow] += 1
        backlog.add(work.flow, weight=work.weight)
    assert served["a"] / 400 == pytest.approx(weight / (1 + weight), abs=0.02)


def test_shares_are_of_tokens_and_not_of_requests() -> None:
    backlog = Backlog()
    for _ in range(300):
        backlog.add("large", tokens=300)
        backlog.add("small", tokens=100)
    served = Counter(backlog.serve().flow for _ in range(200))
    assert served["small"] == pytest.approx(3 * served["large"], abs=3)


def test_a_late_flow_is_served_next_but_gets_no_credit_for_its_idleness() -> None:
    backlog = Backlog()
    for _ in range(200):
        backlog.add("early")
    for _ in range(100):
        backlog.serve()
    for _ in range(100):
        backlog.add("late")
    served = [backlog.serve().flow for _ in range(50)]
    assert "late" in served[:2]
    assert Counter(served)["late"] == pytest.approx(25, abs=1)


def test_a_single_flow_is_served_in_order_of_arrival() -> None:
    backlog = Backlog()
    works = [backlog.add("", tokens=tokens) for tokens in (500, 1, 70, 3, 900, 2)]
    assert [backlog.serve() for _ in works] == works


def test_what_is_given_back_does_not_let_a_flow_overtake_itself() -> None:
    backlog = Backlog()
    works = [backlog.add("a", tokens=100), backlog.add("a", tokens=10), backlog.add("a", tokens=10)]
    backlog.shares.refund("a", 1.0, 100)
    works.append(backlog.add("a"))
    assert [backlog.serve() for _ in works] == works


def test_a_cancelled_request_is_not_charged() -> None:
    world = World(Engine("e", limit=1))
    world.chat("running", flow="other")
    for _ in range(10):
        world.scheduler.cancel(world.lane("chat"), world.chat("gone", flow="a", tokens=1000))
    world.chat("b", flow="b", tokens=1000)
    world.chat("b2", flow="b", tokens=1000)
    world.chat("a", flow="a", tokens=1000)
    assert world.order() == ["running", "b", "a", "b2"]


def test_a_flow_whose_answers_cost_more_than_was_charged_gets_fewer() -> None:
    backlog = Backlog()
    for flow in ("cheap", "dear"):
        backlog.add(flow)
    served: Counter[str] = Counter()
    for _ in range(400):
        work = backlog.serve()
        served[work.flow] += 1
        if work.flow == "dear":
            backlog.shares.correct("dear", 1.0, 300)
        backlog.add(work.flow)
    assert served["cheap"] == pytest.approx(4 * served["dear"], rel=0.1)


def test_thousands_of_flows_of_one_request_do_not_stop_ageing() -> None:
    backlog = Backlog()
    for number in range(200):
        backlog.add("one", tokens=1000)  # the virtual time is fast while there is one flow
        if number > 100:
            backlog.serve()
    patient = backlog.add("patient", priority=1)
    for number in range(2000):
        backlog.add(f"flow-{number}")
    began_at, number = backlog.now, 2000
    while backlog.serve() is not patient:
        number += 1
        backlog.add(f"flow-{number}")
        assert backlog.now < began_at + 60, "ten seconds of patience take far longer"
    assert backlog.now > began_at + 5


def test_flows_that_are_not_ahead_are_forgotten() -> None:
    shares = FairShare()
    for number in range(100_000):
        start = shares.charge(f"flow-{number}", 1.0, 10)
        shares.advance(start, 10, 1.0)
    assert len(shares._flows) < 10_000


def test_time_without_work_is_no_part_of_the_speed() -> None:
    backlog = Backlog()
    speeds: list[float] = []
    for _ in range(2):
        for _ in range(200):
            backlog.add("a")
        while backlog.queue.count:
            backlog.serve()
        speeds.append(backlog.shares.speed)
        backlog.now += 3600
    assert speeds[1] == pytest.approx(speeds[0], rel=0.1)


def test_a_pause_of_all_engines_does_not_make_patience_worthless() -> None:
    backlog = Backlog()
    for _ in range(200):
        backlog.add("a")
    for _ in range(150):
        backlog.serve()
    speeds: list[float] = []
    for _ in range(20):
        backlog.now += 1.0
        backlog.shares.measure(backlog.now)
        speeds.append(backlog.shares.speed)
    assert speeds == [pytest.approx(speeds[0])] * 20
    assert speeds[0] > 5000


def test_what_a_flow_has_had_counts_for_it_wherever_it_has_had_most() -> None:
    for here, there in ((100, 10), (10, 100)):
        own, other = FairShare(), FairShare()
        own.charge("a", 1.0, here)
        other.charge("a", 1.0, there)
        own.follow(other)
        assert own.charge("a", 1.0, 1) == 100
