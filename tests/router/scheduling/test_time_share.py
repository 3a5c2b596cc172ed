"""The share of a GPU's time that each kind gets while both want it."""

import pytest

from sagepool_router.scheduling.time_share import DEPTH_S, TimeShare
from scheduling_world import Engine, EngineCall, World


def _share_of_embeddings(ratio: float, *, call_s: float) -> float:
    """Of the time, with both queues always full."""
    world = World(
        Engine("chat", device="gpu", limit=4),
        Engine("embedder", "embedding", device="gpu", limit=1),
        hybrid_instance_ratio=ratio,
        llm_policy="fifo",
    )
    world.scheduler.gpus["gpu"].state.hold_back.target_s = 1000.0
    clock = world.clock
    used = 0.0

    def start(call: EngineCall) -> None:
        nonlocal used
        if call.slices:
            used += call_s
            clock.call_later(0.0, keep_embeddings_waiting)
        else:
            clock.call_later(0.03, lambda: world.scheduler.answered(call))
        clock.call_later(call_s if call.slices else 0.1, lambda: world.finish(call))

    def keep_embeddings_waiting() -> None:
        for _ in range(32):
            world.embed()

    def keep_chat_waiting() -> None:
        lane = world.lane("chat")
        while len(lane.queue) < 10:
            world.chat()
        clock.call_later(0.01, keep_chat_waiting)

    world.on_start = start
    for _ in range(64):
        world.embed()
    keep_chat_waiting()
    clock.advance(2.0)
    used = 0.0
    clock.advance(60.0)
    return used / 60.0


@pytest.mark.parametrize(
    ("ratio", "lowest", "highest"),
    [(0.0, 0.9, 1.01), (0.3, 0.63, 0.75), (0.7, 0.25, 0.36), (1.0, 0.005, 0.06)],
)
@pytest.mark.parametrize("call_s", [0.02, 0.1])
def test_each_kind_gets_its_share_and_neither_starves(
    ratio: float, lowest: float, highest: float, call_s: float
) -> None:
    assert lowest <= _share_of_embeddings(ratio, call_s=call_s) <= highest


def test_a_long_call_is_paid_back() -> None:
    assert 0.2 <= _share_of_embeddings(0.7, call_s=0.6) <= 0.4


def test_time_that_nobody_else_wants_is_free_and_settles_debts() -> None:
    share = TimeShare(0.7)
    share.advance(0.0, is_contended=False, is_used=True)
    share.advance(5.0, is_contended=True, is_used=True)
    assert share.turn is None
    share.advance(6.0, is_contended=False, is_used=False)
    assert share.turn == "llm"
    share.advance(7.0, is_contended=True, is_used=False)
    assert share.turn is None


def test_the_embeddings_cannot_save_up_much() -> None:
    share = TimeShare(0.7)
    share.advance(0.0, is_contended=True, is_used=False)
    share.advance(100.0, is_contended=True, is_used=True)
    assert (share.balance_s, share.turn) == (DEPTH_S, "embedding")
    share.advance(101.0, is_contended=True, is_used=False)
    assert share.turn == "llm"
