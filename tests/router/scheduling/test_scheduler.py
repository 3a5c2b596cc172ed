"""Admission, queueing, merging, placing and taking back, over engines that only count."""

from math import inf

import pytest

from sagepool_router.scheduling.scheduler import QueueFullError
from sagepool_router.scheduling.settings import QueueLimits
from scheduling_world import EMBEDDER, LLM, Engine, EngineCall, World, engines, loads, texts_of

POLICIES = ("fifo", "priority", "slo_aware", "cost_optimized", "adaptive", "hybrid")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("priority", [0, 2])
def test_a_hundred_at_once_over_four_idle_engines_are_25_each(policy: str, priority: int) -> None:
    world = World(*engines(4), policy=policy)
    for _ in range(100):
        world.chat(priority=priority)
    assert loads(world.engines) == [25, 25, 25, 25]


def test_work_is_started_before_submit_returns_while_there_is_room() -> None:
    world = World(Engine("e", limit=1))
    first, second = world.chat(), world.chat()
    assert [call.work for call in world.calls] == [first]
    assert (first.state, second.state) == ("placed", "waiting")
    world.finish()
    assert second.state == "placed"


def test_the_queue_is_bounded_and_says_when_to_come_back() -> None:
    world = World(Engine("e", limit=1), queue=QueueLimits(max_requests=2))
    for _ in range(3):
        world.chat()
    with pytest.raises(QueueFullError) as refused:
        world.chat("refused")
    assert 1 <= refused.value.retry_after_s <= 60
    world.finish_all()
    assert len(world.history) == 3


def test_who_is_refused_is_told_when_the_queue_will_have_drained() -> None:
    world = World(Engine("e", limit=1), queue=QueueLimits(max_requests=20))
    for _ in range(15):
        world.chat()
    for _ in range(100):
        world.clock.advance(0.1)
        world.finish()
        world.chat()

    def overfill() -> None:
        for _ in range(20):
            world.chat()

    with pytest.raises(QueueFullError) as refused:
        overfill()
    assert refused.value.retry_after_s == pytest.approx(world.scheduler.waiting / 10, rel=0.2)


def test_a_refused_request_costs_its_flow_nothing() -> None:
    world = World(Engine("e", limit=1), queue=QueueLimits(max_requests=3))
    world.chat("running")
    for name in ("a1", "b1", "b2"):
        world.chat(name, flow=name[0], tokens=100)
    for _ in range(20):
        with pytest.raises(QueueFullError):
            world.chat("a", flow="a", tokens=100)
    world.finish()
    world.chat("a2", flow="a", tokens=100)
    assert world.order() == ["running", "a1", "b1", "b2", "a2"]


def test_without_a_queue_embeddings_are_sent_while_there_is_room() -> None:
    world = World(*engines(1, "embedding", limit=2), queue=QueueLimits(max_requests=0))
    world.embed()
    world.embed()
    with pytest.raises(QueueFullError):
        world.embed()
    assert loads(world.engines) == [2]


def test_a_large_request_needs_no_queue_while_engines_are_idle() -> None:
    world = World(*engines(4, "embedding"), queue=QueueLimits(max_requests=0))
    world.embed(100)
    assert sum(texts_of(call) for call in world.history) == 100


# Merging.


def test_an_idle_pool_adds_no_wait_to_an_embedding() -> None:
    world = World(*engines(2, "embedding"))
    works = [world.embed(3), world.embed(1)]
    assert [call.work for call in world.calls] == works
    assert [texts_of(call) for call in world.calls] == [3, 1]


def test_callers_behind_a_busy_engine_become_one_call() -> None:
    world = World(*engines(1, "embedding", limit=1))
    world.embed(name="first")
    for number in range(32):
        world.embed(name=str(number))
    world.finish()
    (call,) = world.calls
    assert texts_of(call) == 32
    assert [piece.work.owner for piece in call.slices] == [str(number) for number in range(32)]


def test_every_request_of_a_call_knows_when_it_was_placed() -> None:
    world = World(*engines(1, "embedding", limit=1))
    works = [world.embed() for _ in range(3)]
    world.pass_time(2.0)
    world.finish()
    assert [work.placed_at for work in works] == [0.0, 2.0, 2.0]


def test_a_text_waits_for_company_while_engines_are_busy_but_not_too_long() -> None:
    world = World(*engines(1, "embedding", limit=2), max_embedding_wait_s=0.005)
    world.embed()
    world.embed()
    world.clock.advance(0.003)
    world.embed()
    assert len(world.calls) == 1
    world.clock.advance(0.0025)
    assert [texts_of(call) for call in world.calls] == [1, 2]


def test_a_full_batch_leaves_before_its_window_closes() -> None:
    world = World(*engines(1, "embedding"), embedding_batch_size=4)
    world.embed()
    for _ in range(4):
        world.embed()
    assert [texts_of(call) for call in world.calls] == [1, 4]
    world.embed()
    world.clock.advance(0.0051)
    assert [texts_of(call) for call in world.calls] == [1, 4, 1]


def test_the_timer_of_an_emptied_queue_does_nothing() -> None:
    world = World(*engines(1, "embedding"))
    world.embed()
    waiting = world.embed()
    world.scheduler.cancel(world.lane(EMBEDDER), waiting)
    world.clock.advance(1)
    assert len(world.history) == 1


def test_a_full_batch_does_not_wait_behind_a_text_that_wants_company() -> None:
    world = World(*engines(1, "embedding"), embedding_batch_size=4, max_embedding_wait_s=1.0)
    world.embed()
    world.parameters = b"a"
    world.embed()
    world.parameters = b"b"
    for _ in range(4):
        world.embed()
    assert [texts_of(call) for call in world.calls] == [1, 4]


def test_only_requests_with_equal_parameters_share_a_call() -> None:
    world = World(*engines(1, "embedding", limit=1))
    world.embed()
    for number in range(6):
        world.parameters = (b"a", b"b")[number % 2]
        world.embed(name=str(number))
    world.finish_all()
    owners = [[piece.work.owner for piece in call.slices] for call in world.history[1:]]
    assert owners == [["0", "2", "4"], ["1", "3", "5"]]


def test_a_request_of_a_hundred_texts_is_split_over_instances() -> None:
    world = World(*engines(4, "embedding"))
    work = world.embed(100)
    assert loads(world.engines) == [1, 1, 1, 1]
    pieces = [piece for call in world.calls for piece in call.slices]
    assert [(p.begin, p.end) for p in pieces] == [(0, 32), (32, 64), (64, 96), (96, 100)]
    assert work.state == "placed"


@pytest.mark.parametrize(
    ("texts", "tokens", "is_full"),
    [
        (4, 4, True),
        (3, 3, False),
        (3, 1200, True),
        (3, 900, True),
        (3, 600, False),
        (1, 2000, True),
    ],
)
def test_a_call_is_full_when_another_text_like_its_own_would_not_fit(
    texts: int, tokens: int, is_full: bool
) -> None:
    limits = {"embedding_batch_size": 4, "embedding_batch_tokens": 1000}
    world = World(*engines(1, "embedding", limit=1), **limits)
    world.embed()
    for _ in range(texts):
        world.embed(tokens=tokens // texts)
    call = world.finish()
    assert not call.is_full
    (merged,) = world.calls
    assert merged.is_full == is_full


def test_only_hybrid_merges_and_splits() -> None:
    world = World(*engines(1, "embedding", limit=1), policy="fifo")
    for _ in range(3):
        world.embed()
    world.embed(100)
    world.finish_all()
    assert [texts_of(call) for call in world.history] == [1, 1, 1, 100]


def test_fairness_holds_inside_of_batches_too() -> None:
    world = World(*engines(1, "embedding", limit=1))
    world.embed()
    for _ in range(100):
        world.embed(name="many", flow="many")
    for _ in range(16):
        world.embed(name="few", flow="few")
    world.finish()
    owners = [piece.work.owner for piece in world.calls[0].slices]
    assert owners.count("few") >= 12


def test_a_request_that_cannot_be_cut_is_refused_and_leaves_nothing() -> None:
    world = World(*engines(1, "embedding", limit=1))
    world.embed()
    world.cut_error = ValueError("no texts")
    with pytest.raises(ValueError, match="no texts"):
        world.embed()
    assert world.scheduler.waiting == 0
    world.finish_all()
    assert loads(world.engines) == [0]


def test_a_partly_sent_request_that_is_cancelled_sends_no_more() -> None:
    world = World(*engines(1, "embedding", limit=1))
    work = world.embed(100)
    world.scheduler.cancel(world.lane(EMBEDDER), work)
    assert (work.state, world.scheduler.waiting) == ("done", 0)
    world.finish_all()
    assert sum(texts_of(call) for call in world.history) == 32


def test_a_partly_sent_request_goes_on_under_another_table() -> None:
    world = World(*engines(1, "embedding", limit=1))
    world.embed(100)
    world.use()
    world.finish()
    assert not world.calls
    world.use(*engines(2, "embedding", limit=1))
    world.finish_all()
    assert [texts_of(call) for call in world.history] == [32, 32, 32, 4]


def test_a_partly_sent_request_goes_on_whole_without_hybrid() -> None:
    world = World(*engines(1, "embedding", limit=1))
    work = world.embed(100)
    world.use(*world.engines, policy="fifo")
    world.finish_all()
    assert [texts_of(call) for call in world.history] == [32, 68]
    assert work.state == "placed"


# Tables.


def test_what_waits_goes_on_waiting_when_all_engines_vanish() -> None:
    world = World(Engine("old", limit=1))
    works = [world.chat(str(number)) for number in range(5)]
    world.use()
    world.finish()
    assert world.scheduler.waiting == 4
    world.use(Engine("new", limit=2))
    world.finish_all()
    assert [call.work for call in world.history] == works
    assert world.scheduler.drop_unlisted() == []


def test_what_waits_for_a_model_that_is_gone_is_handed_back() -> None:
    world = World(Engine("e", limit=1))
    works = [world.chat() for _ in range(3)]
    world.use(Engine("e"), models={EMBEDDER: "embedding"})
    assert world.scheduler.drop_unlisted() == works[1:]
    assert [work.state for work in works] == ["placed", "done", "done"]
    assert world.scheduler.waiting == 0
    assert (LLM, "llm") not in world.scheduler.lanes
    world.finish_all()
    assert len(world.history) == 1


def test_the_last_cancelled_request_does_not_take_an_empty_model_away() -> None:
    world = World()
    work = world.chat()
    world.scheduler.cancel(world.lane(LLM), work)
    again = world.chat()
    world.use(Engine("e"))
    assert again.state == "placed"


@pytest.mark.parametrize("before", POLICIES)
@pytest.mark.parametrize("after", POLICIES)
def test_a_change_of_policy_loses_nothing_of_what_waits(before: str, after: str) -> None:
    world = World(Engine("e", limit=1), *engines(1, "embedding", limit=1), policy=before)
    works = [world.chat(priority=n % 5, deadline_at=(inf, 90.0)[n % 2]) for n in range(100)]
    works += [world.embed(1 + n % 40, priority=n % 5) for n in range(100)]
    world.use(*world.engines, policy=after)
    world.finish_all()
    pieces = [piece for call in world.history for piece in call.slices]
    placed = [call.work for call in world.history if not call.slices]
    placed += [piece.work for piece in pieces if piece.end == piece.work.texts]
    assert len(placed) == 200
    assert set(placed) == set(works)
    assert loads(world.engines) == [0, 0]


def test_models_that_share_engines_take_turns_by_age() -> None:
    world = World()
    world.use(Engine("e", limit=1), models={"a": "llm", "b": "llm"})
    for number in range(6):
        world.chat(f"a{number}", model="a")
        world.chat(f"b{number}", model="b")
        world.clock.advance(0.1)
    assert world.order() == [f"{name}{n}" for n in range(6) for name in "ab"]


# Failures.


def test_a_retry_frees_one_place_and_takes_another() -> None:
    first, second = Engine("first"), Engine("second")
    world = World(first)
    world.chat()
    world.use(first, second)
    (call,) = world.calls
    world.clock.advance(3)
    assert world.retry(call, (first,))
    assert (call.place, call.work.place, call.reason, call.placed_at) == (
        second,
        second,
        "retry",
        3,
    )
    assert loads((first, second)) == [0, 1]


def test_a_retry_serves_whom_the_failed_place_has_room_for() -> None:
    first, second = Engine("first", limit=1), Engine("second", limit=1)
    world = World(first, second)
    calls = [world.chat("a"), world.chat("b")]
    waiting = world.chat("c")
    call = next(c for c in world.calls if c.work is calls[0])
    other = next(c for c in world.calls if c.work is calls[1])
    other.place.resize(2)
    assert world.retry(call, (call.place,))
    assert waiting.state == "placed"
    world.finish_all()
    assert loads((first, second)) == [0, 0]


def test_a_retry_without_another_place_changes_nothing() -> None:
    world = World(Engine("e"))
    world.chat()
    assert not world.retry(world.calls[0], (world.engines[0],))
    assert loads(world.engines) == [1]


def test_a_call_of_several_is_retried_as_one() -> None:
    world = World(*engines(2, "embedding", limit=1))
    world.embed()
    world.embed()
    for _ in range(3):
        world.embed()
    world.finish()
    call = world.calls[-1]
    world.finish(world.calls[0])
    assert world.retry(call, (call.place,))
    assert loads(world.engines) in ([1, 0], [0, 1])
    assert texts_of(call) == 3


def test_parts_of_a_refused_call_go_to_the_same_engine_at_once() -> None:
    world = World(*engines(1, "embedding", limit=1))
    world.embed()
    for _ in range(4):
        world.embed()
    world.finish()
    call = world.calls.pop()
    world.scheduler.finished(call)
    for half in (call.slices[:2], call.slices[2:]):
        world.scheduler.divide(call, half)
    assert [texts_of(part) for part in world.calls] == [2, 2]
    world.finish_all()
    assert loads(world.engines) == [0]


def test_calls_that_end_while_they_are_started_do_not_stop_the_queue() -> None:
    world = World(Engine("a", limit=1), *engines(1, "embedding", limit=1))
    blocked = world.chat()
    works = [world.chat() for _ in range(800)]

    def fail(call: EngineCall) -> None:
        world.finish(call)

    world.on_start = fail
    world.finish(next(c for c in world.calls if c.work is blocked))
    assert all(work.state == "placed" for work in works)
    assert loads(world.engines) == [0, 0]


def test_calls_on_a_retired_engine_end_quietly() -> None:
    old = Engine("old", limit=1)
    world = World(old)
    world.chat()
    waiting = world.chat()
    world.use(Engine("new", limit=1))
    assert waiting.state == "placed"
    world.finish_all()
    assert old.in_flight == 0


def test_a_forced_request_is_charged_like_any_other() -> None:
    world = World(Engine("out", limit=0))
    work = world.chat()
    assert work.state == "waiting"
    forced = type(work)("llm", LLM, 0.0)
    world.scheduler.force(world.lane(LLM), forced, world.engines[0])
    assert loads(world.engines) == [1]
    assert world.calls[0].reason == "last_resort"
    world.finish_all()
    assert loads(world.engines) == [0]
