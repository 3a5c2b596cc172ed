"""Who may start on a GPU that both kinds share."""

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_router.scheduling.hold_back import FRESH_S, RETRY_S
from sagepool_router.scheduling.settings import SchedulingSettings, Targets
from sagepool_router.scheduling.shared_gpu import MAX_HELD_S, Demand, SharedGpu
from scheduling_world import EMBEDDER, Engine, EngineCall, World

NOTHING = Demand()
PRIORITIES = ("high", "normal", "low", "adaptive")


def demand(waiting: int, oldest_at: float = 0.0) -> Demand:
    found = Demand()
    found.waiting, found.oldest_at = waiting, oldest_at if waiting else inf
    return found


def gpu(priority: str = "normal", *, ratio: float = 0.7, ttft_s: float = 1000.0) -> SharedGpu:
    return SharedGpu(
        SchedulingSettings(
            embedding_priority=priority,  # type: ignore[arg-type]  # one of its values
            hybrid_instance_ratio=ratio,
            targets=Targets(chat_ttft_s=ttft_s),
        )
    )


def may_start(state: SharedGpu, now: float, llm: Demand, embeddings: Demand) -> tuple[bool, bool]:
    state.judge(now, llm, embeddings)
    return state.may_start_llm, state.may_start_embedding


@pytest.mark.parametrize(
    ("priority", "llm", "embeddings", "expected"),
    [
        ("high", demand(5, 1.0), demand(1, 2.0), (False, True)),
        ("low", demand(1, 2.0), demand(5, 1.0), (True, False)),
        ("normal", demand(1, 1.0), demand(1, 2.0), (True, False)),
        ("normal", demand(1, 2.0), demand(1, 1.0), (False, True)),
        ("adaptive", demand(1, 1.0), demand(1, 2.0), (False, True)),
        ("adaptive", demand(2, 1.0), demand(1, 2.0), (True, False)),
    ],
)
def test_who_goes_first_while_neither_is_behind(
    priority: str, llm: Demand, embeddings: Demand, expected: tuple[bool, bool]
) -> None:
    assert may_start(gpu(priority), 2.1, llm, embeddings) == expected


def test_adaptive_changes_sides_above_40_and_below_30_percent() -> None:
    state = gpu("adaptive")
    sides = []
    for embeddings in (39, 41, 35, 31, 29, 35, 41):
        now = 1.0
        llm = demand(100 - embeddings, 0.5)
        sides.append(may_start(state, now, llm, demand(embeddings, 0.9))[1])
    assert sides == [False, True, True, True, False, False, True]


@pytest.mark.parametrize("priority", PRIORITIES)
def test_alone_each_kind_starts_as_it_likes(priority: str) -> None:
    assert may_start(gpu(priority, ratio=1.0), 1.0, NOTHING, demand(9)) == (True, True)
    assert may_start(gpu(priority, ratio=0.0), 1.0, demand(9), NOTHING)[0]


def test_without_hybrid_nothing_is_held_back() -> None:
    state = SharedGpu(SchedulingSettings(policy="fifo", hybrid_instance_ratio=1.0))
    assert may_start(state, 1.0, demand(5), demand(5)) == (True, True)


@pytest.mark.parametrize(("priority", "is_held"), [("high", False), ("normal", True)])
def test_embeddings_are_held_back_while_a_chat_waits_for_its_first_byte(
    priority: str, is_held: bool
) -> None:
    state = gpu(priority, ttft_s=1.0)
    state.llm_placed("chat", 0.0, 0.0)
    assert may_start(state, 0.15, NOTHING, demand(1, 0.1))[1]
    assert may_start(state, 0.25, NOTHING, demand(1, 0.1))[1] is not is_held
    state.llm_answered("chat", 0.7)
    assert may_start(state, 0.7, NOTHING, demand(1, 0.3))[1]


# Shares of time.


@pytest.mark.parametrize(
    ("ratio", "chat_age_s", "chats_waiting", "embedding_age_s", "restraint"),
    [
        (0.7, 0.05, 0, 0.5, "turn"),
        (0.7, 0.05, 0, 5.0, None),
        (0.7, 0.15, 0, 5.0, "turn"),
        (0.7, 0.05, 1, 5.0, "turn"),
        (1.0, 0.05, 0, 5.0, "turn"),
        (0.0, 0.05, 1, 5.0, None),
    ],
)
def test_shares_decide_while_chat_waits_or_embeddings_lose_nothing_by_it(
    ratio: float,
    chat_age_s: float,
    chats_waiting: int,
    embedding_age_s: float,
    restraint: str | None,
) -> None:
    state = gpu(ratio=ratio, ttft_s=1.0)
    state.llm_placed("first", 9.0, 9.0)
    state.embedding_began(9.0)
    state.judge(9.0, demand(1, 9.0), demand(1, 9.0))
    now = 9.5
    state.llm_answered("first", now)
    state.embedding_ended()
    state.llm_placed("second", now - chat_age_s, now)
    state.judge(now, demand(chats_waiting, now), demand(1, now - embedding_age_s))
    assert state.held_back_by == restraint


def held_back(ttft_s: float) -> int:
    """Of a hundred chats in a row: how many found embeddings held, which always wait, and long."""
    state = gpu(ttft_s=1.0)
    held = 0
    for number in range(100):
        placed_at = 10.0 + number * ttft_s
        now = placed_at + 0.9 * ttft_s
        late = demand(50, now - 5.0)
        state.llm_placed(number, placed_at, placed_at)
        if state.calls:  # since the last chat
            state.embedding_ended()
        if may_start(state, now, NOTHING, late)[1]:
            state.embedding_began(now)
            state.judge(now, NOTHING, late)
        else:
            held += 1
        state.llm_answered(number, placed_at + ttft_s)
    return held


def test_embeddings_that_wait_long_are_held_to_their_share_only_if_chat_waits_too() -> None:
    assert held_back(0.05) == 0
    assert 50 < held_back(0.15) < 80


# What does not stream.


def test_an_answer_that_does_not_stream_says_nothing_of_its_first_token() -> None:
    state = gpu(ttft_s=0.1)
    state.llm_placed("chat", 0.0, 0.0, streams=False)
    assert state.llm_unanswered == 1, "it wants the GPU"
    assert may_start(state, 5.0, NOTHING, demand(1, 4.9)) == (True, True)
    state.llm_left("chat")
    may_start(state, 6.0, NOTHING, NOTHING)
    assert (state.llm_unanswered, state.hold_back.is_reachable) == (0, True)


# What chat engines say of themselves.


def streaming(priority: str = "normal", *, ratio: float = 0.7) -> SharedGpu:
    """A GPU with a chat that has its first byte long since."""
    state = gpu(priority, ratio=ratio)
    state.llm_placed("chat", 9.0, 9.0)
    state.llm_answered("chat", 9.1)
    return state


@pytest.mark.parametrize(
    ("waiting", "kv_use", "cause"),
    [
        (0, 0.5, None),
        (3, 0.5, "engine_queue"),
        (0, 0.95, "engine_kv_cache"),
    ],
)
@pytest.mark.parametrize("priority", PRIORITIES)
def test_embeddings_are_held_back_while_a_chat_engine_says_that_it_is_short(
    priority: str, waiting: int, kv_use: float, cause: str | None
) -> None:
    state = streaming(priority)
    state.observe_engine(10.0, "engine", waiting, kv_use)
    expected = None if priority == "high" else cause
    assert may_start(state, 10.1, NOTHING, demand(1, 10.0)) == (True, expected is None)
    assert state.held_back_by == expected


def test_an_engine_that_has_room_again_holds_nothing_back() -> None:
    state = streaming()
    state.observe_engine(10.0, "engine", 3, 0.0)
    assert not may_start(state, 10.1, NOTHING, demand(1, 10.0))[1]
    state.observe_engine(10.5, "engine", 0, 0.0)
    assert may_start(state, 10.5, NOTHING, demand(1, 10.0))[1]


def test_a_stale_reading_holds_nothing_back() -> None:
    state = streaming()
    state.observe_engine(10.0, "engine", 3, 0.95)
    assert not may_start(state, 10.0 + FRESH_S - 0.01, NOTHING, demand(1, 11.0))[1]
    assert may_start(state, 10.0 + FRESH_S, NOTHING, demand(1, 11.0))[1]


@pytest.mark.parametrize("ratio", [0.0, 0.7, 1.0])
def test_without_a_chat_under_way_embeddings_get_everything_whatever_was_said(
    ratio: float,
) -> None:
    state = streaming(ratio=ratio)
    state.observe_engine(10.0, "engine", 3, 1.0)
    state.llm_left("chat")
    assert may_start(state, 10.0, NOTHING, demand(9, 9.9)) == (True, True)
    assert state.held_back_by is None


def test_without_hybrid_what_an_engine_says_holds_nothing_back() -> None:
    state = SharedGpu(SchedulingSettings(policy="fifo"))
    state.llm_placed("chat", 9.0, 9.0)
    state.observe_engine(10.0, "engine", 3, 1.0)
    assert may_start(state, 10.0, NOTHING, demand(1, 10.0)) == (True, True)


def test_an_engine_that_stays_short_without_embeddings_leaves_them_their_share() -> None:
    state = streaming(ratio=0.0)
    held = []
    for tick in range(int(2 * (MAX_HELD_S + RETRY_S) / 0.1)):
        now = 10.0 + tick * 0.1
        if tick % 5 == 0:
            state.observe_engine(now, "engine", 3, 1.0)
        is_open = may_start(state, now, NOTHING, demand(5, 10.0))[1]
        held.append(not is_open)
        if is_open:
            state.embedding_began(now)
            state.embedding_ended()
    assert held[0]
    in_a_row = max(len(run) for run in "".join("x" if h else " " for h in held).split())
    assert in_a_row <= MAX_HELD_S / 0.1
    assert 0.1 < sum(held) / len(held) < 0.25


def test_a_call_that_runs_is_no_sign_that_holding_back_does_not_help() -> None:
    state = streaming()
    state.observe_engine(10.0, "engine", 3, 0.0)
    state.embedding_began(10.0)
    for tick in range(1, 8):
        now = 10.0 + tick * 0.5
        state.observe_engine(now, "engine", 3, 0.0)
        assert not may_start(state, now, NOTHING, demand(1, 10.0))[1]
    state.embedding_ended()
    assert may_start(state, 13.5, NOTHING, demand(1, 10.0))[1], "it is overdue"


@pytest.mark.parametrize("priority", PRIORITIES)
@pytest.mark.parametrize("ratio", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("waiting", [0, 3])
def test_never_are_both_held_back_and_neither_for_too_long(
    priority: str, ratio: float, waiting: int
) -> None:
    state = gpu(priority, ratio=ratio, ttft_s=0.5)
    held = {"llm": 0.0, "embedding": 0.0}
    embedding_ends_at = inf
    for tick in range(1, 3000):
        now = tick / 100
        llm, embeddings = demand(50, now - 5), demand(50, now - 4)
        if tick % 50 == 0:
            state.observe_engine(now, "engine", waiting, 0.0)
        state.judge(now, llm, embeddings)
        assert state.may_start_llm or state.may_start_embedding
        if now >= embedding_ends_at:
            state.embedding_ended()
            embedding_ends_at = inf
            state.judge(now, llm, embeddings)
        if state.may_start_embedding and not state.calls:
            state.embedding_began(now)
            embedding_ends_at = now + 0.05
            state.judge(now, llm, embeddings)
            held["embedding"] = now
        if state.may_start_llm:
            state.llm_placed(tick, now - 5, now)
            if tick > 20:
                state.llm_answered(tick - 20, now)
            state.judge(now, llm, embeddings)
            held["llm"] = now
        assert all(now - since <= MAX_HELD_S + 0.1 for since in held.values())


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["chat", "first byte", "chat ends", "embed", "embedding ends", "reading"]),
        st.sampled_from([0.001, 0.03, 0.3, 2.0]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=40,
)


def happen(state: SharedGpu, event: str, now: float, chats: list[int]) -> None:
    """Let something happen on a GPU; `chats` are those under way, the last is the newest."""
    if event == "chat":
        chats.append((chats[-1] if chats else 0) + 1)
        state.llm_placed(chats[-1], now - 0.1, now)
    elif event == "first byte" and chats:
        state.llm_answered(chats[0], now)
    elif event == "chat ends" and chats:
        state.llm_left(chats.pop(0))
    elif event == "embed":
        state.embedding_began(now)
    elif event == "embedding ends" and state.calls:
        state.embedding_ended()
    elif event == "reading":
        state.observe_engine(now, "engine", 1, 0.5)


@given(events=EVENTS, priority=st.sampled_from(PRIORITIES), ratio=st.sampled_from([0.0, 0.7, 1.0]))
def test_where_nothing_of_chat_counts_a_judgement_would_hold_no_embedding_back(
    events: list[tuple[str, float, int, int]], priority: str, ratio: float
) -> None:
    state = gpu(priority, ratio=ratio, ttft_s=0.5)
    now, chats = 0.0, list[int]()
    for event, pause, llm, embeddings in events:
        now += pause
        happen(state, event, now, chats)
        if not state.is_wanted_by_llm(now) and state.may_start_llm and state.may_start_embedding:
            assert may_start(state, now, NOTHING, demand(embeddings, now - 3)) == (True, True)
        else:
            state.judge(now, demand(llm, now - 1), demand(embeddings, now - 3))


# Through the scheduler.


def mixed(**changes: Any) -> World:
    return World(
        Engine("chat", device="gpu", limit=1),
        Engine("embedder", "embedding", device="gpu", limit=1),
        **changes,
    )


@pytest.mark.parametrize(
    ("priority", "ratio", "first"),
    [("high", 0.7, "embedding"), ("low", 0.7, "chat"), ("high", 1.0, "chat")],
)
def test_whose_turn_it_is_when_both_wait_for_the_same_gpu(
    priority: str, ratio: float, first: str
) -> None:
    world = mixed(embedding_priority=priority, hybrid_instance_ratio=ratio)
    for engine in world.engines:
        engine.resize(0)
    world.chat("chat")
    world.embed(name="embedding")
    for engine in world.engines:
        engine.resize(1)
    world.clock.advance(0.03)
    world.scheduler.resume()
    call = world.calls[0]
    assert (call.slices[0].work if call.slices else call.work).owner == first


def test_an_engine_that_is_out_does_not_hold_the_other_kind_back() -> None:
    world = mixed(embedding_priority="high", hybrid_instance_ratio=0.0)
    world.engines[1].resize(0)
    for _ in range(5):
        world.embed()
    works = [world.chat() for _ in range(20)]
    world.clock.advance(0.1)
    for _ in range(20):
        world.finish()
        world.clock.advance(0.01)
    assert all(work.state == "placed" for work in works)


def test_gates_open_when_a_gpu_leaves_the_table() -> None:
    world = mixed(hybrid_instance_ratio=1.0)
    chat, embedder = world.engines
    world.chat()
    world.embed()
    waiting = world.embed()
    world.clock.advance(0.03)
    assert not embedder.is_open
    embedder.device = ""
    world.use(embedder)
    assert embedder.is_open
    assert (chat.in_flight, embedder.gpu) == (1, None)
    world.finish_all()
    world.clock.advance(0.1)
    world.finish_all()
    assert waiting.state == "placed"
    assert (chat.in_flight, embedder.in_flight) == (0, 0)


def test_a_gpu_that_comes_back_counts_only_its_own_calls() -> None:
    world = mixed()
    engines = world.engines
    world.embed()
    for engine in engines:
        engine.device = ""
    world.use(*engines)
    for engine in engines:
        engine.device = "gpu"
    world.use(*engines)
    world.finish_all()
    state = world.scheduler.gpus["gpu"].state
    assert (state.calls, state.llm_unanswered) == (0, 0)


def test_gates_of_an_engine_that_joins_a_gpu_are_set() -> None:
    world = mixed(hybrid_instance_ratio=1.0)
    world.chat()
    world.embed()
    world.embed()
    world.clock.advance(0.03)
    joined = Engine("another", "embedding", device="gpu")
    world.use(*world.engines, joined)
    assert not joined.is_open


def test_what_a_gate_held_starts_when_chat_is_answered() -> None:
    world = mixed(targets=Targets(chat_ttft_s=1.0))
    world.chat()
    world.clock.advance(0.6)
    world.embed()
    assert world.scheduler.waiting == 1, "judged when it comes, not with the next sweep"
    world.scheduler.answered(world.calls[0])
    assert world.scheduler.waiting == 0


def test_what_an_engine_said_holds_a_queue_back_until_it_is_stale() -> None:
    world = mixed()
    world.chat()
    world.scheduler.answered(world.calls[0])
    world.embed()
    waits = world.embed()
    state = world.scheduler.gpus["gpu"].state
    state.observe_engine(world.clock.now, "chat", 3, 0.0)
    world.finish(world.calls[1])
    assert waits.state == "waiting", "there is room, and the GPU is held for chat"
    world.clock.advance(FRESH_S + 0.05)
    assert waits.state == "placed", "without waiting for a sweep"


def test_a_chat_that_embeddings_keep_waiting_starts_when_it_is_overdue() -> None:
    world = mixed(embedding_priority="high", hybrid_instance_ratio=0.0)
    world.engines[0].resize(2)
    for _ in range(3):
        world.embed()
    world.chat()
    waits = world.chat()
    world.clock.advance(MAX_HELD_S - 0.05)
    assert waits.state == "waiting"
    world.clock.advance(0.1)
    assert waits.state == "placed", "without waiting for a sweep"


def test_many_closed_loops_on_one_gpu_all_go_on() -> None:
    world = mixed(embedding_priority="adaptive", targets=Targets(chat_ttft_s=0.3))
    ended = {"llm": 0, "embedding": 0}

    def start(call: EngineCall) -> None:
        if not call.slices:
            world.clock.call_later(0.1, lambda: world.scheduler.answered(call))
        world.clock.call_later(0.2, lambda: end(call))

    def end(call: EngineCall) -> None:
        world.finish(call)
        ended[call.work.kind] += len(call.slices) or 1
        for _ in call.slices:
            world.embed()
        if not call.slices:
            world.chat()

    world.on_start = start
    for _ in range(8):
        world.chat()
        world.embed()
    world.pass_time(60.0)
    assert world.lane(EMBEDDER).shares.flows <= 1
    assert min(ended.values()) > 60
