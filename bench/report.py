"""The tables, as Markdown. Pure but for writing the file."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import CannotMeasure
from bench.figures import Spread, ratios, spread
from bench.goals import GOALS, Goal, Results
from bench.measure import Sample, Samples
from bench.peers import VLLM_ROUTER
from bench.starts import Starts
from bench.targets import BARE, DIRECT
from bench.workloads import Workload

BEGIN: Final = "<!-- figures: written by `python -m bench --write` -->"
END: Final = "<!-- end of figures -->"

REFERENCES: Final = (BARE, VLLM_ROUTER)
"""Whose CPU time that of every target is compared with."""

_NOTHING: Final = "-"
_MEBIBYTE: Final = 1 << 20

_Column = tuple[str, Callable[[Sample], float], int]


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured, and how."""

    results: Results
    workloads: Sequence[Workload]
    targets: Sequence[str]
    facts: Mapping[str, str]
    rounds: int


def render(run: Run) -> str:
    """Return the whole report: the goals, one table a workload, and the machine's facts."""
    machine = ", ".join(f"{name} {value}" for name, value in run.facts.items())
    parts = [
        f"Measured on: {machine}. Rounds: {run.rounds}, interleaved; each cell is the median, with "
        "the smallest and largest round in brackets. CPU time is that of the program under test "
        "with all its processes, alone on its core; the engine and the load generator have "
        "one or two others, and the last column shows that they had room.",
        f"### Goals\n\n{render_goals(run.results)}",
    ]
    parts += [
        f"### {w.title}\n\n{render_table(run.results.samples, w, run.targets)}"
        for w in run.workloads
    ]
    if run.results.starts:
        parts.append(
            f"### From the command to the first good answer\n\n{render_starts(run.results.starts)}"
        )
    return "\n\n".join(parts) + "\n"


def render_goals(results: Results, goals: Sequence[Goal] = GOALS) -> str:
    """Return the table of goals, what the router reached, and whether that is enough."""
    rows = []
    for goal in goals:
        values = goal.read(results)
        verdict = _NOTHING
        if values is not None:
            verdict = "yes" if values.median <= goal.at_most else "**no**"
        measured = _NOTHING if values is None else format_cell(values, 2)
        rows.append([goal.figure, f"{goal.at_most:g} {goal.unit}", measured, verdict])
    return format_table(["figure of the router", "at most", "measured", "met"], rows)


def render_starts(starts: Starts) -> str:
    """Return the table of what starting takes, a row for each target."""
    rows = [
        [
            name,
            format_cell(spread([start.wall_s for start in taken]), 2),
            format_cell(spread([start.cpu_s for start in taken]), 2),
            format_cell(spread([start.rss_bytes / _MEBIBYTE for start in taken]), 0),
        ]
        for name, taken in starts.items()
    ]
    return format_table(["target", "seconds", "CPU seconds", "memory MiB"], rows)


def render_table(samples: Samples, workload: Workload, targets: Sequence[str]) -> str:
    """Return the table of one workload, a row for each target."""
    columns = _columns(workload)
    compared = () if workload.unit == "stream" else REFERENCES
    titles = [title for title, _, _ in columns]
    titles[2:2] = [f"x {name}" for name in compared]
    rows = []
    for name in targets:
        rounds = samples.get((workload.name, name), ())
        if not rounds:
            rows.append([name, *[_NOTHING] * len(titles)])
            continue
        row = [
            format_cell(spread([read(sample) for sample in rounds]), d) for _, read, d in columns
        ]
        row[2:2] = [_ratio(samples, workload, name, reference) for reference in compared]
        rows.append([name, *row])
    return format_table(["target", *titles], rows)


def _ratio(samples: Samples, workload: Workload, name: str, reference: str) -> str:
    """CPU time a unit, round by round, to that of another target."""
    costs, others = (
        [sample.cpu_us for sample in samples.get((workload.name, target), ())]
        for target in (name, reference)
    )
    compared = min(len(costs), len(others))  # the slowest are asked in the first round only
    if name == DIRECT or not compared:
        return _NOTHING
    return format_cell(ratios(costs[:compared], others[:compared]), 2)


def format_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first are numbers."""
    header, *body = (f"| {' | '.join(row)} |" for row in (titles, *rows))
    return "\n".join([header, "|" + "---|" + "--:|" * (len(titles) - 1), *body])


def _columns(workload: Workload) -> Sequence[_Column]:
    timed = "first event" if workload.is_stream else "answer"
    latency: list[_Column] = [
        (f"{timed} p50 ms", lambda sample: sample.p50_ms, 1),
        (f"{timed} p99 ms", lambda sample: sample.p99_ms, 1),
    ]
    added: list[_Column] = [
        ("added p50 ms", lambda sample: sample.added_p50_ms, 1),
        ("added p99 ms", lambda sample: sample.added_p99_ms, 1),
    ]
    memory: _Column = ("memory MiB", lambda sample: _or_nan(sample.rss_bytes) / _MEBIBYTE, 0)
    if workload.unit == "stream":
        return [memory, *latency]
    calls: list[_Column] = []
    if workload.path.endswith("embeddings"):
        calls.append(("engine calls/text", lambda sample: sample.engine_calls, 3))
    return [
        (f"{workload.unit}s/s", lambda sample: sample.rate, 0),
        (f"CPU µs/{workload.unit}", lambda sample: sample.cpu_us, 1),
        *calls,
        *latency,
        *added,
        memory,
        ("core busy %", lambda sample: _or_nan(sample.router_busy) * 100, 0),
        ("load's core busy %", lambda sample: sample.load_busy * 100, 0),
    ]


def _or_nan(value: float) -> float:
    """Nothing was measured where there is no program under test."""
    return value or math.nan


def format_cell(values: Spread, digits: int) -> str:
    """The median, and the extremes where they differ."""
    if math.isnan(values.median):
        return _NOTHING
    median = f"{values.median:,.{digits}f}"
    if values.low == values.high:
        return median
    return f"{median} ({values.low:,.{digits}f} to {values.high:,.{digits}f})"


def replace_figures(page: str, report: str, begin: str = BEGIN, end: str = END) -> str:
    """Return the page with the report between its markers.

    Raises CannotMeasure where the page does not have each marker once, in order.
    """
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end or begin in after or end in after:
        raise CannotMeasure(
            f"the page has no single pair of the lines {begin} and {end}: restore them"
        )
    return f"{before}{begin}\n\n{report}\n{end}{after}"


def write_figures(path: Path, report: str, begin: str = BEGIN, end: str = END) -> None:
    """Put the report into the page. Raises CannotMeasure where the page or its markers lack."""
    try:
        page = path.read_text()
    except FileNotFoundError as error:
        raise CannotMeasure(f"there is no {path}: restore it") from error
    path.write_text(replace_figures(page, report, begin, end))
