"""What an instance has no room for waits again, as if it had not been sent."""

import pytest

from sagepool_router.scheduling.settings import QueueLimits
from scheduling_world import EMBEDDER, LLM, Engine, EngineCall, World, texts_of


def embedders(count: int = 1, limit: int = 1) -> list[Engine]:
    return [Engine(f"e{number}", "embedding", limit=limit) for number in range(count)]


def refuse(world: World, call: EngineCall | None = None) -> bool:
    """The engine of a call, the newest if none is named, is full and takes nothing for a while."""
    call = call or world.calls[-1]
    call.place.resize(0)
    return world.refuse(call)


def reopen(world: World, limit: int = 1) -> None:
    for engine in world.engines:
        engine.resize(limit)
    world.scheduler.sweep()


def names(call: EngineCall) -> list[object]:
    return [piece.work.owner for piece in call.slices] or [call.work.owner]


def bounds(call: EngineCall) -> list[tuple[int, int]]:
    """From and to, of the texts in a call."""
    return [(piece.begin, piece.end) for piece in call.slices]


@pytest.mark.parametrize("policy", ["fifo", "hybrid"])
def test_refused_work_waits_and_goes_before_what_came_after_it(policy: str) -> None:
    world = World(*embedders(), policy=policy, embedding_batch_size=1)
    first, second = world.embed(name="first", flow="a"), world.embed(name="second", flow="b")
    assert refuse(world)
    assert (first.state, first.place, second.state) == ("waiting", None, "waiting")
    assert (world.scheduler.waiting, world.engines[0].in_flight) == (2, 0)
    world.embed(name="third", flow="c")
    reopen(world)
    assert world.order() == ["first", "first", "second", "third"]


def test_chats_wait_again_too() -> None:
    world = World(Engine("e", limit=1))
    world.chat("first")
    world.chat("second")
    assert refuse(world)
    reopen(world)
    assert world.order() == ["first", "first", "second"]


def test_what_stays_away_from_the_free_instance_lets_those_behind_it_go_there() -> None:
    world = World(Engine("a", limit=1), Engine("b", limit=1))
    first, _, third = (world.chat(name) for name in ("first", "second", "third"))
    failed = world.calls[0]
    first.avoids = (failed.place,)
    assert world.refuse(failed)
    assert (first.state, third.state, third.place) == ("waiting", "placed", failed.place)


def test_work_keeps_its_priority_when_it_comes_back() -> None:
    world = World(Engine("e", limit=1), policy="priority")
    world.chat("background", priority=4)
    world.chat("critical", priority=0)
    assert refuse(world)
    reopen(world)
    assert world.order() == ["background", "critical", "background"]


def test_a_merged_call_comes_back_as_its_requests_in_their_order() -> None:
    world = World(*embedders())
    world.embed(name="busy")
    sent = [world.embed(name=str(number), flow=str(number)) for number in range(4)]
    world.finish()
    assert names(world.calls[-1]) == ["0", "1", "2", "3"]
    left = world.calls[-1]
    assert refuse(world)
    assert [work.state for work in sent] == ["waiting"] * 4
    world.scheduler.cancel(left.lane, sent[1])
    world.embed(name="4", flow="4")
    reopen(world)
    assert names(world.calls[-1]) == ["0", "2", "3", "4"]
    world.finish_all()
    assert world.engines[0].in_flight == world.scheduler.waiting == 0


def test_parts_of_a_large_request_come_back_while_others_are_out() -> None:
    world = World(*embedders(3), embedding_batch_size=4)
    work = world.embed(14, name="large")
    assert [texts for call in world.calls for texts in bounds(call)] == [(0, 4), (4, 8), (8, 12)]
    first, second, third = world.calls
    for call in (second, first):
        assert refuse(world, call)
    assert (work.state, work.untaken, world.scheduler.waiting) == ("waiting", 10, 1)
    reopen(world)
    assert [texts for call in world.calls for texts in bounds(call)] == [(8, 12), (0, 4), (4, 8)]
    world.finish(third)
    assert bounds(world.calls[-1]) == [(12, 14)]
    assert work.state == "placed"


def test_the_last_part_of_a_request_that_comes_back_makes_it_wait_again() -> None:
    world = World(*embedders(2), embedding_batch_size=4)
    work = world.embed(8)
    assert work.state == "placed"
    assert refuse(world)
    assert (work.state, work.untaken, work.untaken_tokens) == ("waiting", 4, 40)
    world.scheduler.cancel(world.lane(EMBEDDER), work)
    world.finish_all()
    assert (work.state, world.scheduler.waiting) == ("done", 0)
    assert not len(world.lane(EMBEDDER).companies)


def test_parts_that_came_back_travel_with_the_rest_where_nothing_is_divided_any_more() -> None:
    world = World(*embedders(3), embedding_batch_size=4)
    world.embed(12)
    first, second, third = world.calls
    assert refuse(world, first)
    assert refuse(world, third)
    world.use(*world.engines, policy="fifo")
    reopen(world)
    assert bounds(world.calls[-1]) == [(0, 4), (8, 12)]
    assert second in world.calls


def test_full_calls_are_counted_with_what_came_back() -> None:
    world = World(*embedders(1, limit=2), embedding_batch_size=4, max_embedding_wait_s=9.0)
    world.embed(name="busy")
    refused = world.embed(4, name="refused")
    assert refused.state == "placed"
    assert refuse(world)
    reopen(world, limit=2)
    assert texts_of(world.calls[-1]) == 4, "a full call waits for nobody"


def test_work_comes_back_only_where_the_queue_has_room_for_all_of_it() -> None:
    world = World(*embedders(), queue=QueueLimits(max_requests=3))
    world.embed()
    works = [world.embed() for _ in range(3)]
    world.finish()
    (call,) = world.calls
    world.embed()
    assert not refuse(world)
    assert [work.state for work in works] == ["placed"] * 3
    assert (world.calls, world.scheduler.waiting, call.place.in_flight) == ([call], 1, 1)


def test_work_of_a_model_that_is_gone_cannot_wait_again() -> None:
    world = World(Engine("e"))
    world.chat()
    world.use(*world.engines, models={EMBEDDER: "embedding"})
    assert not refuse(world)
    world.finish()
    assert (world.scheduler.waiting, world.engines[0].in_flight) == (0, 0)


def test_nobody_is_charged_twice_for_work_that_came_back() -> None:
    world = World(Engine("e", limit=1))
    world.chat("a1", flow="a", tokens=100)
    for _ in range(5):
        assert refuse(world)
        reopen(world)
    world.chat("a2", flow="a", tokens=100)
    world.chat("b1", flow="b", tokens=100)
    world.chat("b2", flow="b", tokens=100)
    assert set(world.order()[-3:-1]) == {"a2", "b1"}, "a's turn is as if nothing had come back"


def test_a_refusal_leaves_the_place_to_another_model() -> None:
    world = World(Engine("e", limit=1))
    world.use(*world.engines, models={LLM: "llm", "other": "llm"})
    world.chat("refused")
    other = world.chat("other", model="other")
    (call,) = world.calls
    world.clock.advance(1)
    assert world.refuse(call)
    assert [c.work.owner for c in world.calls] == ["refused"], "who came first is first"
    world.finish()
    assert other.state == "placed"
