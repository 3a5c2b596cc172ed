"""The order of what waits, and the counts beside it."""

import random
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.scheduling.fair_share import FairShare
from sagepool_router.scheduling.waiting_queue import WaitingQueue
from sagepool_router.scheduling.work import Work
from scheduling_world import Engine

Item = Work[Engine]


def queue() -> WaitingQueue[Engine]:
    return WaitingQueue(FairShare())


def item(start_tag: float = 0.0, *, flow: str = "", priority: int = 2, due: float = inf) -> Item:
    work: Item = Work("llm", "m", 0.0, flow=flow, priority=priority, deadline_at=due)
    work.start_tag = start_tag
    return work


def drain(waiting: WaitingQueue[Engine]) -> list[Item]:
    found = []
    while (work := waiting.peek()) is not None:
        waiting.take(work)
        found.append(work)
    return found


def test_the_lowest_tag_and_patience_is_next_and_equals_keep_their_order() -> None:
    waiting = queue()
    late, first, second, patient = item(5000), item(10), item(10), item(10)
    waiting.push(late, 0)
    waiting.push(patient, 10)
    waiting.push(first, 0)
    waiting.push(second, 0)
    assert waiting.waiting() == [first, second, late, patient]
    assert drain(waiting) == [first, second, late, patient]


def test_what_is_taken_from_the_middle_never_comes_up() -> None:
    waiting = queue()
    works = [item(number) for number in range(300)]
    for work in works:
        waiting.push(work, 0)
    for work in works[50:250]:
        waiting.take(work)
    assert len(waiting) == 100
    assert drain(waiting) == works[:50] + works[250:]


def test_another_policy_orders_what_waits_anew() -> None:
    waiting = queue()
    works = [item(priority=number) for number in (3, 1, 2)]
    for work in works:
        waiting.push(work, 0)
    waiting.rerank(lambda work: float(work.priority))
    assert [work.priority for work in drain(waiting)] == [1, 2, 3]


def test_what_is_put_back_stands_back_from_now_on() -> None:
    waiting = queue()
    first, second = item(0), item(3000)
    waiting.push(first, 0)
    waiting.push(second, 0)
    waiting.shares.virtual = 2500
    waiting.put_back(1.0)
    assert drain(waiting) == [second, first]


def test_what_comes_back_goes_before_its_equals_and_counts_once() -> None:
    waiting = queue()
    works = [item(10), item(10), item(10)]
    for work in works:
        waiting.push(work, 0)
    for work in works[:2]:
        waiting.take(work)
    for work in reversed(works[:2]):
        waiting.take_back(work, 0)
    assert waiting.waiting() == waiting.first(9) == works
    assert drain(waiting) == works
    assert (len(waiting), waiting.shares.flows) == (0, 0)


def test_the_oldest_may_be_one_that_came_back() -> None:
    waiting = queue()
    works = [Item("llm", "m", float(number)) for number in range(3)]
    for work in works:
        waiting.push(work, 0)
    waiting.take(works[0])
    waiting.take(works[1])
    assert waiting.oldest_at() == 2
    waiting.take_back(works[1], 0)
    waiting.take_back(works[0], 0)
    assert waiting.oldest_at() == 0
    waiting.take(works[0])
    assert waiting.oldest_at() == 1


def test_it_knows_what_kinds_of_work_wait() -> None:
    waiting = queue()
    works = [item(flow="a", due=5), item(flow="a", priority=0), item(flow="b")]
    for work in works:
        waiting.push(work, 0)
    assert (waiting.shares.flows, waiting.deadlines, dict(waiting.priorities)) == (
        2,
        1,
        {2: 2, 0: 1},
    )
    waiting.take(works[0])
    waiting.take(works[2])
    assert (waiting.shares.flows, waiting.deadlines, dict(waiting.priorities)) == (1, 0, {0: 1})


@given(
    st.lists(st.sampled_from(["push", "take head", "take any", "take back", "rerank"])),
    st.integers(),
)
def test_it_is_always_as_if_it_were_sorted(events: list[str], seed: int) -> None:
    chance = random.Random(seed)
    waiting = queue()
    expected: list[Item] = []
    left: list[Item] = []
    for event in events:
        if event == "push":
            work = item(chance.choice([0, 10, 20]), priority=chance.randrange(5))
            waiting.push(work, chance.choice([0, 0.01]))
            expected.append(work)
        elif event == "take back":
            if left:
                work = left.pop(chance.randrange(len(left)))
                waiting.take_back(work, 0)
                expected.append(work)
        elif event == "rerank":
            patience = {work: chance.random() for work in expected}
            waiting.rerank(patience.__getitem__)
        elif expected:
            work = min(expected) if event == "take head" else chance.choice(expected)
            if event == "take head":
                assert waiting.peek() is work
            waiting.take(work)
            expected.remove(work)
            left.append(work)
        assert waiting.waiting() == sorted(expected)
        assert len(waiting) == len(expected)
