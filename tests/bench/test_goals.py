"""Which goals the router misses."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from bench.cli import main
from bench.goals import GOALS, Goal, Results, misses
from bench.measure import Sample
from bench.report import render_goals
from bench.starts import Start

SAMPLE = Sample(
    rate=1000.0,
    cpu_us=40.0,
    p50_ms=1.0,
    p99_ms=2.0,
    rss_bytes=50 << 20,
    router_busy=0.4,
    load_busy=0.5,
    engine_calls=0.1,
    added_p50_ms=4.0,
    added_p99_ms=3.0,
)
WORKLOADS = ("chat", "paced", "half", "embedding", "long")


def results(
    changes: Mapping[str, Sample] | None = None, *, start: Start | None = None, rounds: int = 3
) -> Results:
    """A run that meets every goal, but for the router's samples that are given."""
    samples = {}
    for workload in WORKLOADS:
        samples[workload, "bare"] = [replace(SAMPLE, cpu_us=30.0)] * rounds
        samples[workload, "vllm-router"] = [replace(SAMPLE, cpu_us=100.0)] * rounds
        samples[workload, "router"] = [(changes or {}).get(workload, SAMPLE)] * rounds
    return Results(samples, {"router": [start or Start(1.0, 1.0, 80_000_000)] * rounds})


def test_a_router_that_reaches_everything_misses_nothing() -> None:
    assert misses(results()) == []


@pytest.mark.parametrize(
    ("workload", "changes", "figure"),
    [
        ("chat", {"cpu_us": 71.0}, "CPU a chat request"),
        ("paced", {"cpu_us": 91.0}, "CPU a paced chunk"),
        ("paced", {"added_p50_ms": 5.1}, "added to the first token, p50"),
        ("paced", {"added_p99_ms": 15.1}, "added to the first token, p99"),
        ("embedding", {"cpu_us": 71.0}, "CPU an embedded text"),
        ("embedding", {"engine_calls": 0.126}, "engine calls a text"),
        ("half", {"added_p99_ms": 3.1}, "added at half of its limit, p99"),
        ("long", {"cpu_us": 61.0}, "CPU a prompt of 400 KB"),
    ],
)
def test_each_goal_is_missed_above_it(
    workload: str, changes: dict[str, float], figure: str
) -> None:
    sentences = misses(results({workload: replace(SAMPLE, **changes)}))
    assert [sentence.partition(":")[0] for sentence in sentences] == [figure]


@pytest.mark.parametrize(
    ("start", "figure"),
    [
        (Start(9.0, 1.31, 80_000_000), "CPU from start to first answer"),
        (Start(9.0, 1.3, 100_100_000), "memory at first answer"),
    ],
)
def test_a_slow_start_is_missed_by_cpu_and_memory_alone(start: Start, figure: str) -> None:
    sentences = misses(results(start=start))
    assert [sentence.partition(":")[0] for sentence in sentences] == [figure]


def test_one_disturbed_round_misses_no_goal() -> None:
    run = results()
    disturbed = {**run.samples, ("chat", "router"): [SAMPLE, replace(SAMPLE, cpu_us=900.0), SAMPLE]}
    assert misses(Results(disturbed, run.starts)) == []


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    nothing = Results({}, {})
    assert misses(nothing) == []
    rows = render_goals(nothing).splitlines()[2:]
    assert len(rows) == len(GOALS)
    assert all(row.endswith("| - | - |") for row in rows)


def test_a_latency_that_was_compared_with_nothing_meets_no_goal() -> None:
    alone = replace(SAMPLE, added_p99_ms=math.nan)
    half = next(goal for goal in GOALS if goal.figure == "added at half of its limit, p99")
    assert half.read(results({"half": alone})) is None


def test_the_table_of_goals_says_which_are_met() -> None:
    goals = [
        Goal("far", 1, "ms", lambda run: GOALS[3].read(run)),
        Goal("near", 5, "ms", lambda run: GOALS[3].read(run)),
    ]
    assert render_goals(results(), goals).splitlines()[2:] == [
        "| far | 1 ms | 3.00 | **no** |",
        "| near | 5 ms | 3.00 | yes |",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--check", "--targets", "direct", "router"], "--check needs bare and .*vllm-router"),
        (["--targets", "direct", "--workloads", "half"], "half needs chat: name it too"),
        (["--targets", "direct", "--workloads", "nothing"], "no workload nothing: choose from"),
    ],
)
def test_a_run_that_could_not_be_judged_is_not_begun(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options) == 1
    assert re.search(message, capsys.readouterr().err)
