"""A pool in simulated time: the same seed, the same figures; what arrives ends; who is beaten."""

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from bench.simulation.cli import main
from bench.simulation.clock import Clock
from bench.simulation.figures import Figures, pareto_front, summarise
from bench.simulation.pools import POOLS, Pool
from bench.simulation.runner import CONTENDERS, Contender, Run, simulate
from bench.simulation.traffic import MIXES, Mix, Rates, Request, build_requests

from sagepool_router.scheduling.settings import QueueLimits, SchedulingSettings

POOL = {pool.name: pool for pool in POOLS}
MIX = {mix.name: mix for mix in MIXES}
BY_NAME = {contender.name: contender for contender in CONTENDERS}
NAMES = tuple(BY_NAME)


def run(pool: str, mix: str, seconds: float = 3.0, seed: int = 1) -> Run:
    return Run(POOL[pool], MIX[mix], seconds, seed)


def outcome(requests: list[Request]) -> list[tuple[object, ...]]:
    return [(r.arrived_at, r.outcome, r.first_token_at, r.ended_at) for r in requests]


def figures(scene: Run, name: str, **kinds: bool) -> Figures:
    return summarise([simulate(scene, BY_NAME[name], **kinds)], scene.seconds)


# Time.


def test_events_happen_in_the_order_of_their_time_and_then_of_asking() -> None:
    clock = Clock()
    seen: list[tuple[str, float]] = []
    for name, delay_s in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
        clock.call_later(delay_s, lambda n=name: seen.append((n, clock.now)))  # type: ignore[misc]  # its default binds the loop
    clock.call_later(1.5, lambda: seen.append(("never", clock.now))).cancel()
    clock.run(until=lambda: False)
    assert seen == [("first", 1.0), ("second", 1.0), ("late", 2.0)]


# Traffic.


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix.name)
def test_requests_come_at_the_rate_and_in_the_shares_of_the_mix(mix: Mix) -> None:
    rates = Rates(100 * mix.chat_share, 100 * (1 - mix.chat_share))
    counts = Counter(request.kind for request in build_requests(mix, rates, 100.0, seed=3))
    assert counts["llm"] == pytest.approx(100 * rates.chats, rel=0.1)
    assert counts["embedding"] == pytest.approx(100 * rates.embeddings, rel=0.1)


def test_chats_are_the_same_whatever_comes_beside_them() -> None:
    alone, beside = (
        [
            (r.arrived_at, r.tokens, r.output_tokens, r.priority)
            for r in build_requests(MIX["50/50"], Rates(20.0, embeddings), 5.0, seed=1)
            if r.kind == "llm"
        ]
        for embeddings in (0.0, 30.0)
    )
    assert alone == beside
    assert len(alone) > 50


def test_a_burst_has_several_times_the_requests_of_a_lull() -> None:
    requests = build_requests(MIX["bursts"], Rates(100.0, 0.0), 100.0, seed=1)
    in_burst = sum(request.arrived_at % 5.0 < 1.0 for request in requests)
    assert in_burst == pytest.approx(0.6 * len(requests), rel=0.1)


# Runs.


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_run_and_another_seed_another(name: str) -> None:
    first, again, other = (
        outcome(simulate(run("saturated", "bursts", 1.0, seed), BY_NAME[name]))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("pool", POOL)
@pytest.mark.parametrize("name", NAMES)
def test_everything_that_arrives_ends_once(name: str, pool: str) -> None:
    scene = run(pool, "50/50", seconds=2.0)
    requests = simulate(scene, BY_NAME[name])
    wanted = build_requests(scene.mix, scene.rates, scene.seconds, scene.seed)
    assert [r.arrived_at for r in requests] == [r.arrived_at for r in wanted]
    for request in requests:
        assert request.outcome is not None
        assert request.ended_at is not None
        assert request.ended_at >= request.arrived_at
        if request.outcome == "answered":
            assert request.texts_left == 0
            assert (request.first_token_at is not None) == (request.kind == "llm")


def test_a_request_cannot_end_twice() -> None:
    request = Request("llm", 0.0, 2, 10)
    request.end("answered", 1.0)
    with pytest.raises(RuntimeError, match="was answered"):
        request.end("expired", 2.0)


def test_a_queue_that_is_full_refuses_and_one_that_is_too_slow_lets_expire() -> None:
    flooded = Pool("flooded", "one shared GPU", load=4.0, mixed=1)
    settings = SchedulingSettings(queue=QueueLimits(max_requests=50, max_wait_s=0.5))
    requests = simulate(Run(flooded, MIX["50/50"], 3.0, 1), Contender("hybrid", settings))
    outcomes = Counter(request.outcome for request in requests)
    assert set(outcomes) == {"answered", "refused", "expired"}
    assert outcomes.total() == len(requests)


def test_chat_alone_is_what_it_is_beside_embeddings_on_other_gpus() -> None:
    scene = run("separate", "50/50", seconds=10.0)
    both, alone = (figures(scene, "hybrid", embeddings=kind) for kind in (True, False))
    assert both.ttft_p99_ms <= 1.2 * alone.ttft_p99_ms
    embeddings = figures(scene, "hybrid", chats=False)
    assert both.texts_per_s >= 0.8 * embeddings.texts_per_s


def test_where_there_is_room_chat_hardly_notices_embeddings_on_its_gpus() -> None:
    scenes = [run("room", "50/50", 20.0, seed) for seed in (1, 2, 3)]
    both, alone, texts = (
        summarise([simulate(s, BY_NAME["hybrid"], **kinds) for s in scenes], 20.0)
        for kinds in ({}, {"embeddings": False}, {"chats": False})
    )
    assert both.ttft_p99_ms <= 1.2 * alone.ttft_p99_ms
    assert both.texts_per_s >= 0.8 * texts.texts_per_s


def test_two_routers_that_tell_each_other_nothing_protect_chat_nearly_as_well_as_one() -> None:
    scenes = [run("room", "50/50", 20.0, seed) for seed in (1, 2, 3)]
    one, two = (
        summarise(
            [simulate(s, Contender("hybrid", SchedulingSettings(), routers=n)) for s in scenes],
            20.0,
        )
        for n in (1, 2)
    )
    assert two.ttft_p99_ms <= 1.25 * one.ttft_p99_ms
    assert two.texts_per_s >= 0.99 * one.texts_per_s


@pytest.mark.parametrize("mix", ["50/50", "80/20", "bursts"])
def test_no_plain_router_and_no_other_policy_beats_hybrid_on_saturated_gpus(mix: str) -> None:
    scene = run("saturated", mix, seconds=12.0)
    found = {name: figures(scene, name) for name in NAMES}
    assert "hybrid" in pareto_front(found)
    assert found["hybrid"].ttft_p99_ms < found["round robin"].ttft_p99_ms
    assert found["hybrid"].ttft_p99_ms < found["least loaded"].ttft_p99_ms


def of_seeds(mix: str, name: str) -> Figures:
    """Of three runs on saturated GPUs."""
    runs = [simulate(run("saturated", mix, 12.0, seed), BY_NAME[name]) for seed in (1, 2, 3)]
    return summarise(runs, 12.0)


@pytest.mark.parametrize("plain", ["round robin", "least loaded"])
def test_chat_far_below_its_target_costs_embeddings_little_throughput(plain: str) -> None:
    hybrid, other = of_seeds("50/50", "hybrid"), of_seeds("50/50", plain)
    assert hybrid.ttft_p99_ms < 0.9 * other.ttft_p99_ms
    assert hybrid.texts_per_s > 0.9 * other.texts_per_s
    assert hybrid.chat.goodput == 1.0


@pytest.mark.parametrize("plain", ["round robin", "least loaded"])
def test_where_embeddings_alone_fill_the_gpus_hybrid_is_close_to_a_plain_router(plain: str) -> None:
    # nothing that starts later changes a first token there (docs/scheduling-simulation.md)
    hybrid, other = of_seeds("20/80", "hybrid"), of_seeds("20/80", plain)
    assert hybrid.ttft_p99_ms < 1.1 * other.ttft_p99_ms
    assert hybrid.texts_per_s > 0.9 * other.texts_per_s


# Figures.


def point(ttft_s: float, texts: int) -> Figures:
    """Of one chat with such a first token, and one request of so many texts."""
    chat = Request("llm", 0.0, 2, 10)
    chat.first_token_at = ttft_s
    chat.end("answered", ttft_s)
    embedding = Request("embedding", 0.0, 2, 10)
    embedding.texts = texts
    embedding.end("answered", 0.1)
    return summarise([[chat, embedding]], 10.0)


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ({"a": (1.0, 10), "b": (2.0, 20)}, ["a", "b"]),
        ({"a": (1.0, 10), "b": (2.0, 10)}, ["a"]),
        ({"a": (1.0, 10), "b": (1.0, 20)}, ["b"]),
        ({"a": (1.0, 10), "b": (1.0, 10)}, ["a", "b"]),
        ({"a": (1.0, 1000), "b": (1.04, 995)}, ["a", "b"]),
        ({"a": (1.0, 1000), "b": (1.06, 995)}, ["a"]),
        ({"a": (1.0, 1000), "b": (1.04, 985)}, ["a"]),
        ({"a": (1.0, 20), "b": (2.0, 10), "c": (0.5, 5)}, ["a", "c"]),
    ],
)
def test_on_the_front_is_who_is_beaten_by_nobody(
    points: dict[str, tuple[float, int]], front: list[str]
) -> None:
    assert pareto_front({name: point(*values) for name, values in points.items()}) == front


def test_what_is_not_answered_counts_as_infinitely_late_and_is_no_good() -> None:
    answered, refused = Request("llm", 0.0, 0, 10), Request("llm", 0.0, 4, 10)
    answered.first_token_at = 0.5
    answered.end("answered", 0.7)
    refused.end("refused", 0.0)
    found = summarise([[answered, refused]], 1.0)
    assert math.isinf(found.ttft_p99_ms)
    assert found.ttft_p50_ms == pytest.approx(500.0)
    assert (found.chat.goodput, found.chat.unanswered) == (0.5, 0.5)
    assert found.chat.by_priority[0] == 1.0
    assert found.chat.by_priority[4] == 0.0


def test_what_ends_after_the_last_arrival_does_not_count_as_throughput() -> None:
    early, late = Request("embedding", 0.0, 2, 10), Request("embedding", 0.0, 2, 10)
    for request, ended_at in ((early, 1.0), (late, 11.0)):
        request.texts = 20
        request.end("answered", ended_at)
    assert summarise([[early, late]], 10.0).texts_per_s == pytest.approx(2.0)


def test_contenders_are_every_policy_and_two_plain_routers() -> None:
    plain = [c.name for c in CONTENDERS if c.settings is None]
    assert plain == ["round robin", "least loaded"]
    assert {c.settings.policy for c in CONTENDERS if c.settings is not None} == {
        "hybrid",
        "adaptive",
        "slo_aware",
        "priority",
        "cost_optimized",
        "fifo",
    }


def test_the_report_is_the_same_whatever_hashes_are() -> None:
    command = [sys.executable, "-m", "bench.simulation", "--quick", "--seconds", "1"]
    command += ["--pools", "saturated", "--mixes", "bursts"]
    root = Path(__file__).parents[2]
    sources = os.pathsep.join(map(str, (root, root / "crds", root / "router")))
    first, second = (
        subprocess.run(
            command,
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": sources},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    )
    assert b"| hybrid |" in first
    assert first == second


def test_quick_look_says_where_hybrid_is_and_fails_nowhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--quick", "--seconds", "1", "--pools", "separate", "--mixes", "50/50"]) == 0
    printed = capsys.readouterr().out
    assert "| separate | 50/50 |" in printed
    for name in NAMES:
        assert f"\n| {name} |" in printed
