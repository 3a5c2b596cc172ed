"""Who is measured when, and what becomes of those who fail or are slow."""

import math
import os
from collections.abc import Callable

import pytest
from bench.errors import LoadFailed
from bench.measure import Sample
from bench.processes import Running, running
from bench.rounds import LONG_S, Rounds
from bench.targets import DIRECT, Target
from bench.workloads import Workload, build_workloads

CHAT, PACED, HALF, *_ = build_workloads(streams=10, quick=True)


class Bench:
    """Answers with latencies by the target's name, and keeps who was asked for what."""

    def __init__(self, p99_ms: dict[str, float]) -> None:
        self.engine = Target(DIRECT, 1, None)
        self.p99_ms = p99_ms
        self.asked: list[tuple[str, float]] = []
        self.failing: set[str] = set()
        self.now = 0.0
        self.takes_s: dict[str, float] = {}

    def measure(self, target: Target, workload: Workload) -> Sample:
        self.asked.append((target.name, workload.rate))
        self.now += self.takes_s.get(target.name, 1.0)
        if target.name in self.failing:
            raise LoadFailed(f"{workload.name} on {target.name}: not one answer came")
        p99_ms = self.p99_ms[target.name] + workload.rate / 1000
        return Sample(1000.0, 50.0, p99_ms / 2, p99_ms, 1, 0.5, 0.5)


class Silence:
    """Says nothing."""

    def say(self, message: str) -> None:
        pass


@pytest.fixture(scope="module")
def program() -> Running:
    """Something that runs no longer; only that it is there counts."""
    with running("a program", ["true"], min(os.sched_getaffinity(0))) as program:
        pass
    return program


Make = Callable[[str], Target]


@pytest.fixture
def target(program: Running) -> Make:
    return lambda name: Target(name, 2, None if name == DIRECT else program)


def rounds(bench: Bench) -> Rounds:
    return Rounds(bench, Silence(), clock=lambda: bench.now)


def test_latency_is_compared_with_the_engine_in_the_same_round(target: Make) -> None:
    bench = Bench({DIRECT: 10.0, "router": 14.0})
    taken = rounds(bench)
    taken.run([target("router"), target(DIRECT)], PACED)
    (router,), (direct,) = taken.samples["paced", "router"], taken.samples["paced", DIRECT]
    assert (router.added_p50_ms, router.added_p99_ms) == (2.0, 4.0)
    assert math.isnan(direct.added_p99_ms)


def test_an_open_loop_asks_both_for_a_part_of_what_the_target_could_answer(target: Make) -> None:
    bench = Bench({DIRECT: 10.0, "router": 13.0})
    taken = rounds(bench)
    taken.run([target("router")], CHAT)
    taken.run([target("router")], HALF)
    assert bench.asked == [("router", 0.0), (DIRECT, 500.0), ("router", 500.0)]
    assert taken.samples["half", "router"][0].added_p99_ms == pytest.approx(3.0)


def test_a_program_of_others_that_fails_is_asked_no_more_and_has_no_figures(target: Make) -> None:
    bench = Bench({"smg": 10.0})
    taken = rounds(bench)
    taken.run([target("smg")], CHAT)
    bench.failing.add("smg")
    for _ in range(2):
        taken.run([target("smg")], CHAT)
    assert len(bench.asked) == 2
    assert ("chat", "smg") not in taken.samples


def test_without_a_limit_there_is_no_half_of_it(target: Make) -> None:
    bench = Bench({"smg": 10.0})
    bench.failing.add("smg")
    taken = rounds(bench)
    taken.run([target("smg")], CHAT)
    taken.run([target("smg")], HALF)
    assert bench.asked == [("smg", 0.0)]


def test_one_of_ours_that_fails_ends_the_run(target: Make) -> None:
    bench = Bench({"router": 10.0})
    bench.failing.add("router")
    with pytest.raises(LoadFailed, match="chat on router"):
        rounds(bench).run([target("router")], CHAT)


@pytest.mark.parametrize(("takes_s", "asked"), [(LONG_S, 3), (LONG_S + 1, 1)])
def test_whoever_takes_long_is_asked_once(takes_s: float, asked: int, target: Make) -> None:
    bench = Bench({"plain": 10.0})
    bench.takes_s["plain"] = takes_s
    taken = rounds(bench)
    for _ in range(3):
        taken.run([target("plain")], PACED)
    assert len(taken.samples["paced", "plain"]) == asked
