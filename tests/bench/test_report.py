"""Tables and markers."""

import math
from dataclasses import replace

import pytest
from bench.errors import CannotMeasure
from bench.measure import Sample
from bench.report import BEGIN, END, render_table, replace_figures
from bench.workloads import build_workloads

SAMPLE = Sample(
    rate=1000.0,
    cpu_us=40.0,
    p50_ms=1.0,
    p99_ms=2.0,
    rss_bytes=50 << 20,
    router_busy=0.4,
    load_busy=0.5,
    added_p50_ms=0.5,
    added_p99_ms=0.7,
)
CHAT, *_, EMBEDDING, _, MEMORY = build_workloads(streams=1000, quick=False)


def cost(*cpu_us: float) -> list[Sample]:
    """One sample a round."""
    return [replace(SAMPLE, cpu_us=value) for value in cpu_us]


def test_table_shows_medians_spreads_and_ratios_to_bare() -> None:
    unmeasured = {"cpu_us": math.nan, "added_p50_ms": math.nan, "added_p99_ms": math.nan}
    direct = replace(SAMPLE, rss_bytes=0, router_busy=0.0, **unmeasured)
    samples = {
        ("chat", "direct"): [direct] * 3,
        ("chat", "bare"): cost(40.0, 50.0, 45.0),
        ("chat", "router"): cost(50.0, 75.0, 54.0),
    }
    assert render_table(samples, CHAT, ["direct", "bare", "router"]).splitlines() == [
        "| target | requests/s | CPU µs/request | x bare | x vllm-router | answer p50 ms "
        "| answer p99 ms | added p50 ms | added p99 ms | memory MiB | core busy % "
        "| load's core busy % |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        "| direct | 1,000 | - | - | - | 1.0 | 2.0 | - | - | - | - | 50 |",
        "| bare | 1,000 | 45.0 (40.0 to 50.0) | 1.00 | - | 1.0 | 2.0 | 0.5 | 0.7 | 50 | 40 | 50 |",
        "| router | 1,000 | 54.0 (50.0 to 75.0) | 1.25 (1.20 to 1.50) | - | 1.0 | 2.0 | 0.5 | 0.7 "
        "| 50 | 40 | 50 |",
    ]


def test_ratio_is_left_out_where_bare_was_not_measured() -> None:
    table = render_table({("chat", "plain"): cost(500.0)}, CHAT, ["plain"])
    assert "| plain | 1,000 | 500.0 | - | - | 1.0 |" in table


def test_whoever_was_asked_in_the_first_round_only_is_compared_with_that_round() -> None:
    samples = {("chat", "bare"): cost(10.0, 40.0), ("chat", "litellm"): cost(500.0)}
    table = render_table(samples, CHAT, ["bare", "litellm"])
    assert "| litellm | 1,000 | 500.0 | 50.00 |" in table


def test_a_target_that_failed_has_an_empty_row() -> None:
    table = render_table({("memory", "bare"): [SAMPLE]}, MEMORY, ["bare", "litellm"])
    assert table.splitlines()[-1] == "| litellm | - | - | - |"


def test_embeddings_show_how_many_calls_the_engine_got() -> None:
    merged = [replace(SAMPLE, engine_calls=0.0312)]
    table = render_table({("embedding", "router"): merged}, EMBEDDING, ["router"])
    assert "| engine calls/text |" in table
    assert "| 0.031 |" in table


def test_memory_table_shows_memory_first() -> None:
    table = render_table({("memory", "bare"): [SAMPLE]}, MEMORY, ["bare"])
    assert table.splitlines()[2] == "| bare | 50 | 1.0 | 2.0 |"


def test_figures_replace_only_what_is_between_the_markers() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    written = replace_figures(page, "new\n")
    assert written == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert replace_figures(written, "new\n") == written


@pytest.mark.parametrize("page", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{BEGIN}\n{END}"])
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(CannotMeasure, match="restore them"):
        replace_figures(page, "new")
