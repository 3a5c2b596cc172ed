"""The engine model: its mechanics, and how far it is from what was measured."""

import pytest
from bench.simulation.calibration import MEASURED, Loop, Measured, Range, measure, model
from bench.simulation.clock import Clock
from bench.simulation.costs import Costs
from bench.simulation.engines import Chat, ChatEngine, EmbeddingEngine, Texts
from bench.simulation.gpu import Gpu

COSTS = Costs()
THROUGHPUT = 1.35
"""At most so many times what was measured, or that part of it."""
LATENCY = 3.0
"""The same of TTFT p99: it is the first wave of a loop, and the model knows no warming up."""


def is_within(measured: Range, modelled: Range, factor: float) -> bool:
    """Every modelled figure lies in the measured range, widened by the factor at both ends."""
    return measured[0] / factor <= modelled[0] and modelled[1] <= measured[1] * factor


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: row.title)
def test_model_is_near_what_was_measured(row: Measured) -> None:
    modelled = model(row, COSTS)
    pairs = (
        (row.texts_per_s, modelled.texts_per_s, THROUGHPUT),
        (row.chats_per_s, modelled.chats_per_s, THROUGHPUT),
        (row.call_p50_ms, modelled.call_p50_ms, THROUGHPUT),
        (row.ttft_p99_ms, modelled.ttft_p99_ms, LATENCY),
    )
    for known, found, factor in pairs:
        if known is not None and found is not None:
            assert is_within(known, found, factor), (known, found)


def test_embeddings_beside_busy_chat_lose_a_good_part_of_their_throughput() -> None:
    alone, beside = measure(Loop(0, 4), COSTS), measure(Loop(64, 4), COSTS)
    assert 0.5 <= beside.texts_per_s / alone.texts_per_s <= 0.8


def test_busy_chat_loses_a_quarter_to_half_of_its_throughput_beside_embeddings() -> None:
    alone, beside = measure(Loop(64), COSTS), measure(Loop(64, 4), COSTS)
    assert 0.45 <= beside.chats_per_s / alone.chats_per_s <= 0.75


def test_more_than_four_calls_in_flight_buy_nothing_but_latency() -> None:
    four, sixteen = measure(Loop(0, 4), COSTS), measure(Loop(0, 16), COSTS)
    assert sixteen.texts_per_s == pytest.approx(four.texts_per_s, rel=0.05)
    assert sixteen.call_p50_ms > 3 * four.call_p50_ms


def test_calls_of_many_texts_carry_more_of_them() -> None:
    one, many = (measure(Loop(32, calls, texts), COSTS) for calls, texts in ((32, 1), (8, 32)))
    assert many.texts_per_s > 1.25 * one.texts_per_s


def test_prompts_longer_than_an_iteration_are_read_in_parts() -> None:
    clock = Clock()
    engine = ChatEngine(clock, COSTS, Gpu(clock, COSTS))
    first: list[float] = []
    engine.accept(Chat(20_000, 1, lambda: first.append(clock.now), lambda: None))
    clock.run(until=lambda: False)
    parts = (8192, 8192, 20_000 - 2 * 8192)
    read_s = sum(COSTS.chat_iteration(0, part) for part in parts) + COSTS.chat_sequence_s
    assert first == [pytest.approx(COSTS.chat_front_s + read_s)]


def test_a_chat_makes_one_token_an_iteration_and_leaves() -> None:
    clock = Clock()
    engine = ChatEngine(clock, COSTS, Gpu(clock, COSTS))
    ends: list[float] = []
    engine.accept(Chat(100, 11, lambda: ends.append(clock.now), lambda: ends.append(clock.now)))
    clock.run(until=lambda: False)
    first, last = ends
    assert last - first == pytest.approx(10 * COSTS.chat_iteration(1, 0))
    assert (engine.running, engine.waiting) == (0, 0)


def test_more_chats_than_sequences_wait_and_are_seen_waiting() -> None:
    clock = Clock()
    engine = ChatEngine(clock, COSTS, Gpu(clock, COSTS))
    ended: list[float] = []
    most = COSTS.chat_sequences
    for _ in range(most + 10):
        engine.accept(Chat(8, 400, lambda: None, lambda: ended.append(clock.now)))
    seen: set[tuple[int, int]] = set()

    def is_over() -> bool:
        seen.add((engine.running, engine.waiting))
        return False

    clock.run(is_over)
    assert max(running for running, _ in seen) == most
    assert (most, 10) in seen
    assert len(ended) == most + 10


def test_engines_on_one_gpu_slow_each_other_and_recover() -> None:
    clock = Clock()
    gpu = Gpu(clock, COSTS)
    ends: dict[str, float] = {}
    gpu.run("llm", 1.0, lambda: ends.update(llm=clock.now), sequences=10)
    gpu.run("embedding", 0.1, lambda: ends.update(embedding=clock.now))
    clock.run(until=lambda: False)
    slowed = COSTS.embedding_slowdown(10, reads_prompts=False)
    assert ends["embedding"] == pytest.approx(0.1 * slowed)
    beside_s = ends["embedding"]
    rest_s = 1.0 - beside_s / COSTS.chat_slowdown(10)
    assert ends["llm"] == pytest.approx(beside_s + rest_s)


def test_texts_of_several_calls_are_computed_together() -> None:
    clock = Clock()
    engine = EmbeddingEngine(clock, COSTS, Gpu(clock, COSTS))
    ends: list[float] = []
    for _ in range(3):
        engine.accept(Texts(1, 260, lambda: ends.append(clock.now)))
    engine.accept(Texts(100, 26_000, lambda: ends.append(clock.now)))
    clock.run(until=lambda: False)
    assert len(ends) == 4
    assert ends == sorted(ends)
    assert ends[-1] > COSTS.embedding_front(100) + COSTS.embedding_iteration(26_000)
