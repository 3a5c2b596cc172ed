"""Tables of scale and its goals."""

import os
from collections.abc import Sequence

import pytest
from bench.errors import CannotMeasure
from bench.measure import Sample
from bench.processes import running
from bench.procfs import Usage
from bench.scale.parts import SlowReaders, StreamRound, body_workload
from bench.scale.report import (
    Scale,
    render_bodies,
    render_routers,
    render_scale,
    render_slow,
    render_streams,
    render_tables,
    scale_misses,
)
from bench.scale.timeline import Moment, read_usage, watched
from bench.targets import Target, engine_url

MEBIBYTE = 1 << 20


def cost(*cpu_us: float) -> list[Sample]:
    """One sample a round."""
    return [Sample(1000.0, value, 1.0, 2.0, 50 * MEBIBYTE, 0.4, 0.5) for value in cpu_us]


def sized(*samples: list[Sample]) -> dict[tuple[int, str], list[Sample]]:
    """The router's, over 10, 100 and 1,000 instances."""
    return {(10**power, "router"): found for power, found in enumerate(samples, 1)}


def held(target: str, open_mib: int, *after_mib: int) -> list[StreamRound]:
    """A round of 4,000 streams for each figure of what was left after it."""
    return [
        StreamRound(target, 4000, 60 * MEBIBYTE, open_mib * MEBIBYTE, mib * MEBIBYTE, 1.5, 90.0)
        for mib in after_mib
    ]


def slow(target: str, *mib: int) -> SlowReaders:
    """A second for each figure, with half of the core in use."""
    moments = [Moment(float(n), Usage(n / 2, size * MEBIBYTE)) for n, size in enumerate(mib)]
    return SlowReaders(target, 10, moments, 61 * MEBIBYTE)


def test_streams_show_memory_before_while_and_after() -> None:
    assert render_streams(held("router", 90, 70)).splitlines() == [
        "| target | streams | before MiB | open MiB | after MiB | CPU s | first event p99 ms |",
        "|---|--:|--:|--:|--:|--:|--:|",
        "| router | 4,000 | 60 | 90 | 70 | 1.50 | 90 |",
    ]


def test_tables_are_compared_with_the_smallest_round_by_round() -> None:
    tables = {(10, "router"): cost(50.0, 100.0), (1000, "router"): cost(60.0, 120.0)}
    assert render_tables(tables).splitlines()[2:] == [
        "| router | 10 | 75.0 (50.0 to 100.0) | 1.00 | 50 |",
        "| router | 1,000 | 90.0 (60.0 to 120.0) | 1.20 | 50 |",
    ]


def test_bodies_show_what_a_kilobyte_takes() -> None:
    bodies = {(100_000, "bare"): cost(100.0), (100_000, "router"): cost(150.0)}
    assert render_bodies(bodies).splitlines()[2:] == [
        "| bare | 100,000 | 100 | 1.00 | 1.00 | 50 |",
        "| router | 100,000 | 150 | 1.50 | 1.50 | 50 |",
    ]


def test_slow_readers_are_shown_second_by_second() -> None:
    assert render_slow([slow("router", 60, 62)]).splitlines()[2:] == [
        "| router, 10 readers | 0 | 60 | - |",
        "|  | 1 | 62 | 50 |",
        "|  | after | 61 | - |",
    ]


def test_a_part_that_was_left_out_has_no_table() -> None:
    report = render_scale(Scale(slow=[slow("router", 60)]), {"cores": "2"})
    assert [line for line in report.splitlines() if line.startswith("### ")] == [
        "### Slow readers: an engine that writes as fast as it can, clients that read "
        "200 KB a second"
    ]


@pytest.mark.parametrize(
    ("scale", "missed"),
    [
        (Scale(), []),
        (Scale(streams=[*held("router", 140, 70), *held("vllm-router", 400, 300)]), []),
        (Scale(streams=[*held("router", 141, 70), *held("vllm-router", 400, 300)]), ["4,000"]),
        (Scale(streams=held("router", 90, 70, 74, 77, 78)), []),
        (Scale(streams=held("router", 90, 70, 74, 77, 79)), ["4,000"]),
        (Scale(streams=held("vllm-router", 90, 70, 74, 77, 179)), []),
        (Scale(tables=sized(cost(50.0), cost(55.0))), []),
        (Scale(tables=sized(cost(50.0), cost(55.0), cost(56.0))), ["1,000 instances"]),
        (Scale(bodies={(100, "router"): cost(1.0), (1000, "router"): cost(12.0)}), []),
        (Scale(bodies={(100, "router"): cost(1.0), (1000, "router"): cost(12.1)}), ["bodies"]),
        (Scale(slow=[slow("router", 60, 70, 65)]), []),
        (Scale(slow=[slow("router", 60, 71, 65)]), ["slow readers"]),
        (Scale(slow=[slow("vllm-router", 60, 171, 65)]), []),
    ],
)
def test_goals_of_scale_are_missed_only_above_them(scale: Scale, missed: Sequence[str]) -> None:
    sentences = scale_misses(scale)
    assert len(sentences) == len(missed)
    for sentence, start in zip(sentences, missed, strict=True):
        assert sentence.startswith(start)


@pytest.mark.parametrize("length", [100_000, 400_000, 1_000_000])
def test_bodies_have_about_the_length_that_is_asked_for(length: int) -> None:
    assert len(body_workload(length, 1.0).body) == pytest.approx(length, rel=0.01)


def test_every_instance_has_an_address_of_its_own() -> None:
    urls = [engine_url(number, 80) for number in range(1000)]
    assert len(set(urls)) == 1000
    assert (urls[0], urls[-1]) == ("http://127.0.0.1:80", "http://127.0.3.250:80")


def test_the_engine_itself_is_not_watched() -> None:
    engine = Target("direct", 1, None)
    with pytest.raises(CannotMeasure, match="direct is no program of its own"):
        read_usage(engine)


def test_a_target_is_watched_while_the_block_runs() -> None:
    with running("a sleeper", ["sleep", "60"], min(os.sched_getaffinity(0))) as program:
        with watched(Target("sleeper", 1, program), interval_s=0.001) as moments:
            while len(moments) < 3:
                pass
        seen = len(moments)
    times = [moment.at_s for moment in moments]
    assert times == sorted(times)
    assert len(moments) == seen


def at(*rates: float) -> list[Sample]:
    """One sample of each rate."""
    return [Sample(rate, 20.0, 1.0, 2.0, 50 * MEBIBYTE, 1.0, 0.5) for rate in rates]


def test_rates_of_routers_that_were_asked_at_once_are_added_round_by_round() -> None:
    table = render_routers({1: at(1000, 1100), 2: at(900, 950, 1000, 1100)})
    one, two = table.splitlines()[2:]
    assert "1,050" in one
    assert "1,975" in two
    assert "1.88 (1.85 to 1.91)" in two


@pytest.mark.parametrize(
    ("second", "missed"),
    [(800.0, []), (600.0, ["2 routers answer 1.60 times as much as one, the goal is 1.7"])],
)
def test_two_routers_have_a_goal(second: float, missed: list[str]) -> None:
    assert scale_misses(Scale(routers={1: at(1000), 2: at(1000, second)})) == missed
