"""The engine batches as a real one does: shared steps that slow down, a queue, a cache."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from sagepool_simulator.engine import EmbeddingCall, Engine, Sequence
from sagepool_simulator.settings import Pace
from simulator_clock import ManualClock
from simulator_server import build_settings

PACE = Pace(first_token_s=0.1, inter_token_s=0.02, batch_slowdown=0.1)


@dataclass
class Request:
    """A sequence, and when its tokens came."""

    token_times: list[float] = field(default_factory=list)
    ended_at: float = math.inf
    sequence: Sequence = field(init=False)


class Bench:
    """An engine on a clock moved by hand."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.engine = Engine(build_settings(**{"pace": PACE, **settings}), self.clock)

    def submit(self, tokens: int = 4, prompt: list[int] | None = None) -> Request:
        request = Request()

        def end() -> None:
            request.ended_at = self.clock.now

        request.sequence = Sequence(
            [] if prompt is None else prompt,
            tokens,
            1,
            lambda count: request.token_times.extend([self.clock.now] * count),
            end,
        )
        self.engine.submit(request.sequence)
        return request


def test_a_lone_request_keeps_the_pace() -> None:
    bench = Bench()
    request = bench.submit(tokens=3)
    bench.clock.run()
    assert request.token_times == pytest.approx([0.1, 0.12, 0.14])
    assert request.ended_at == pytest.approx(0.14)


def test_tokens_come_slower_the_more_sequences_share_a_step() -> None:
    bench = Bench()
    requests = [bench.submit(tokens=1000) for _ in range(11)]
    bench.clock.advance(10.0)
    first, second = requests[0].token_times[-2:]
    assert second - first == pytest.approx(0.02 * (1 + 0.1 * 10))


def test_the_first_token_comes_later_in_a_larger_batch() -> None:
    bench = Bench()
    for _ in range(10):
        bench.submit(tokens=1000)
    late = bench.submit(tokens=1)
    bench.clock.advance(10.0)
    assert late.token_times == pytest.approx([0.1 * (1 + 0.1 * 10)])


def test_the_first_token_comes_later_for_a_longer_prompt() -> None:
    bench = Bench(pace=Pace(first_token_s=0.1, prefill_token_s=0.001))
    request = bench.submit(tokens=1, prompt=list(range(100)))
    bench.clock.run()
    assert request.token_times == pytest.approx([0.2])


def test_a_cached_prefix_is_not_computed_again() -> None:
    bench = Bench(pace=Pace(prefill_token_s=0.001))
    prompt = list(range(101))
    bench.submit(tokens=1, prompt=prompt)
    bench.clock.run()
    started = bench.clock.now
    again = bench.submit(tokens=1, prompt=prompt)
    bench.clock.run()
    assert again.sequence.cached_tokens == 96
    assert again.token_times[0] - started == pytest.approx(0.005)
    assert bench.engine.cache.hit_tokens == 96


def test_more_than_max_num_seqs_wait_for_their_turn() -> None:
    bench = Bench(max_num_seqs=2)
    requests = [bench.submit(tokens=2) for _ in range(5)]
    assert (bench.engine.running, bench.engine.waiting) == (2, 3)
    bench.clock.run()
    assert (bench.engine.running, bench.engine.waiting) == (0, 0)
    ends = [request.ended_at for request in requests]
    assert ends[0] == ends[1] < ends[2] == ends[3] < ends[4] < math.inf


def test_a_full_key_value_cache_makes_others_wait() -> None:
    bench = Bench(kv_blocks=4)
    bench.submit(tokens=48)
    waiting = bench.submit(tokens=32)
    assert bench.engine.cache.usage == 0.75
    assert (bench.engine.running, bench.engine.waiting) == (1, 1)
    bench.clock.run()
    assert waiting.ended_at < math.inf
    assert bench.engine.cache.usage == 0.0


def test_an_abandoned_request_leaves_its_place_to_the_next() -> None:
    bench = Bench(max_num_seqs=1)
    gone, queued, last = (bench.submit(tokens=2) for _ in range(3))
    bench.clock.advance(0.05)
    bench.engine.abort(queued.sequence)
    bench.engine.abort(gone.sequence)
    bench.clock.run()
    assert last.ended_at == pytest.approx(0.05 + 0.1 + 0.02)
    assert gone.token_times == queued.token_times == []
    assert bench.engine.metrics.finished == {"stop": 0, "length": 1, "abort": 2}


def test_an_embedding_call_takes_time_by_its_tokens_and_neighbours() -> None:
    bench = Bench(
        pace=Pace(embed_call_s=0.01, embed_token_s=0.001, batch_slowdown=0.5), max_num_seqs=8
    )
    ends: list[float] = []
    for _ in range(2):
        bench.engine.submit(EmbeddingCall(4, 10, lambda: ends.append(bench.clock.now)))
    assert bench.engine.running == 8
    bench.clock.run()
    assert ends == pytest.approx([0.02, 0.03])


def test_a_thousand_instant_requests_do_not_nest() -> None:
    bench = Bench(pace=Pace(), max_num_seqs=1)
    left = [1000]

    def again() -> None:
        left[0] -= 1
        if left[0]:
            bench.engine.submit(Sequence([], 1, 1, lambda _: None, again))

    bench.engine.submit(Sequence([], 1, 1, lambda _: None, again))
    assert left == [0]
