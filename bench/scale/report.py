"""The tables of scale, and which goals they miss. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from bench.figures import ratios, spread
from bench.measure import Sample
from bench.peers import VLLM_ROUTER
from bench.report import format_cell, format_table
from bench.scale.parts import SlowReaders, StreamRound
from bench.targets import BARE, ROUTER

_MEBIBYTE: Final = 1 << 20
STREAM_MEMORY: Final = 0.35
"""Of vllm-router's, with the most streams open."""
GROWTH_BYTES: Final = 4 * _MEBIBYTE
"""From the second round to the last; the allocator keeps a little more or less each time."""
TABLE_SLACK: Final = 1.1
BODY_SLACK: Final = 1.2
"""Of CPU a byte, from the smallest body to the largest."""
ROUTERS_RATE: Final = 1.7
"""Of two routers, in rates of one."""
READER_BYTES: Final = _MEBIBYTE
"""For each slow reader: socket buffers aside, the router holds no more than a few reads."""


@dataclass(frozen=True, slots=True)
class Scale:
    """All that was measured; a part that was left out is empty."""

    streams: Sequence[StreamRound] = ()
    tables: Mapping[tuple[int, str], Sequence[Sample]] | None = None
    """By the number of engines and the target's name."""
    bodies: Mapping[tuple[int, str], Sequence[Sample]] | None = None
    slow: Sequence[SlowReaders] = ()
    routers: Mapping[int, Sequence[Sample]] | None = None
    """By how many were asked at once; of several, those of a round follow each other."""


def render_scale(scale: Scale, facts: Mapping[str, str]) -> str:
    """Return the whole report as Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in facts.items())
    parts = [f"Measured on: {machine}."]
    if scale.streams:
        parts += ["### Open streams, round after round", render_streams(scale.streams)]
    if scale.tables:
        parts += ["### Instances in the router's table", render_tables(scale.tables)]
    if scale.bodies:
        parts += ["### Long prompts", render_bodies(scale.bodies)]
    if scale.slow:
        parts += [
            "### Slow readers: an engine that writes as fast as it can, clients that read "
            "200 KB a second",
            render_slow(scale.slow),
        ]
    if scale.routers:
        parts += ["### Routers that share an engine", render_routers(scale.routers)]
    return "\n\n".join(parts) + "\n"


def render_streams(rounds: Sequence[StreamRound]) -> str:
    """Memory before, while and after streams are open, and the CPU time that they took."""
    rows = [
        [
            taken.target,
            f"{taken.streams:,}",
            *(_mebibytes(n) for n in (taken.before_bytes, taken.open_bytes, taken.after_bytes)),
            f"{taken.cpu_s:.2f}",
            f"{taken.first_p99_ms:,.0f}",
        ]
        for taken in rounds
    ]
    titles = ("before MiB", "open MiB", "after MiB", "CPU s", "first event p99 ms")
    return format_table(["target", "streams", *titles], rows)


def render_tables(tables: Mapping[tuple[int, str], Sequence[Sample]]) -> str:
    """CPU time a request by the number of instances."""
    least = min(count for count, _ in tables)
    rows = []
    for (count, name), samples in tables.items():
        costs = [sample.cpu_us for sample in samples]
        reference = [sample.cpu_us for sample in tables[least, name]]
        rows.append(
            [
                name,
                f"{count:,}",
                format_cell(spread(costs), 1),
                format_cell(ratios(costs, reference), 2),
                _mebibytes(max(sample.rss_bytes for sample in samples)),
            ]
        )
    titles = ("instances", "CPU µs/request", f"x {least} instances", "memory MiB")
    return format_table(["target", *titles], rows)


def render_bodies(bodies: Mapping[tuple[int, str], Sequence[Sample]]) -> str:
    """CPU time a request and a kilobyte by the length of the body."""
    rows = []
    for (length, name), samples in bodies.items():
        costs = [sample.cpu_us for sample in samples]
        reference = [sample.cpu_us for sample in bodies.get((length, BARE), ())]
        rows.append(
            [
                name,
                f"{length:,}",
                format_cell(spread(costs), 0),
                format_cell(spread([cost / length * 1e3 for cost in costs]), 2),
                format_cell(ratios(costs, reference), 2) if reference else "-",
                _mebibytes(max(sample.rss_bytes for sample in samples)),
            ]
        )
    titles = ("bytes", "CPU µs/request", "CPU µs/KB", f"x {BARE}", "memory MiB")
    return format_table(["target", *titles], rows)


def render_slow(slow: Sequence[SlowReaders]) -> str:
    """Memory and CPU second by second."""
    rows = []
    for taken in slow:
        name = f"{taken.target}, {taken.readers} readers"
        first, *_ = taken.moments
        rows.append([name, f"{first.at_s:.0f}", _mebibytes(first.usage.rss_bytes), "-"])
        for before, moment in pairwise(taken.moments):
            busy = (moment.usage.cpu_s - before.usage.cpu_s) / (moment.at_s - before.at_s)
            memory = _mebibytes(moment.usage.rss_bytes)
            rows.append(["", f"{moment.at_s:.0f}", memory, f"{busy * 100:.0f}"])
        rows.append(["", "after", _mebibytes(taken.after_bytes), "-"])
    return format_table(["target", "second", "memory MiB", "core busy %"], rows)


def render_routers(routers: Mapping[int, Sequence[Sample]]) -> str:
    """What several routers answer together, and what a request costs each."""
    reference = _summed_rates(routers, 1)
    rows = []
    for count, samples in routers.items():
        rates = _summed_rates(routers, count)
        rows.append(
            [
                f"{count}",
                format_cell(spread(rates), 0),
                format_cell(ratios(rates, reference), 2),
                format_cell(spread([sample.cpu_us for sample in samples]), 1),
                format_cell(spread([100 * sample.load_busy for sample in samples]), 0),
            ]
        )
    titles = ("requests/s", "x 1 router", "CPU µs/request", "load's core busy %")
    return format_table(["routers", *titles], rows)


def _summed_rates(routers: Mapping[int, Sequence[Sample]], count: int) -> list[float]:
    """Requests a second of each round."""
    rates = [sample.rate for sample in routers[count]]
    return [sum(rates[begin : begin + count]) for begin in range(0, len(rates), count)]


def _mebibytes(number: int) -> str:
    return f"{number / _MEBIBYTE:,.0f}"


def scale_misses(scale: Scale) -> list[str]:
    """Return a sentence for each goal that the router misses; those not measured are left out."""
    return [
        *_stream_misses(scale.streams),
        *_table_misses(scale.tables or {}),
        *_body_misses(scale.bodies or {}),
        *_slow_misses(scale.slow),
        *_router_misses(scale.routers or {}),
    ]


def _stream_misses(rounds: Sequence[StreamRound]) -> list[str]:
    most = max((taken.streams for taken in rounds), default=0)
    own, other = (
        [taken for taken in rounds if taken.target == name and taken.streams == most]
        for name in (ROUTER, VLLM_ROUTER)
    )
    sentences = []
    if own and other and (ratio := own[0].open_bytes / other[0].open_bytes) > STREAM_MEMORY:
        sentences.append(
            f"{most:,} streams: {ratio:.2f} times the memory of {VLLM_ROUTER}, the goal is "
            f"{STREAM_MEMORY:g} at most"
        )
    if len(own) > 2 and (growth := own[-1].after_bytes - own[1].after_bytes) > GROWTH_BYTES:
        sentences.append(
            f"{most:,} streams: memory grew by {_mebibytes(growth)} MiB from the second round to "
            "the last, the goal is not at all"
        )
    return sentences


def _table_misses(tables: Mapping[tuple[int, str], Sequence[Sample]]) -> list[str]:
    costs = {
        count: [sample.cpu_us for sample in samples]
        for (count, name), samples in tables.items()
        if name == ROUTER
    }
    reference = costs.get(min(costs, default=0), [])
    return [
        f"{count:,} instances: {ratio:.2f} times the CPU of {min(costs)}, the goal is "
        f"{TABLE_SLACK:g} at most"
        for count in costs
        if (ratio := ratios(costs[count], reference).median) > TABLE_SLACK
    ]


def _body_misses(bodies: Mapping[tuple[int, str], Sequence[Sample]]) -> list[str]:
    costs = {
        length: spread([sample.cpu_us for sample in samples]).median / length
        for (length, name), samples in bodies.items()
        if name == ROUTER
    }
    if not costs or costs[max(costs)] <= BODY_SLACK * costs[min(costs)]:
        return []
    return [
        f"bodies: a byte of {max(costs):,} takes {costs[max(costs)] / costs[min(costs)]:.2f} times "
        f"the CPU of one of {min(costs):,}, the goal is {BODY_SLACK:g} at most"
    ]


def _slow_misses(slow: Sequence[SlowReaders]) -> list[str]:
    sentences = []
    for taken in slow:
        held = [moment.usage.rss_bytes for moment in taken.moments]
        growth = (max(held) - held[0]) / taken.readers
        if taken.target == ROUTER and growth > READER_BYTES:
            sentences.append(
                f"slow readers: {growth / _MEBIBYTE:.1f} MiB each, the goal is "
                f"{READER_BYTES / _MEBIBYTE:g} at most"
            )
    return sentences


def _router_misses(routers: Mapping[int, Sequence[Sample]]) -> list[str]:
    if 2 not in routers:
        return []
    ratio = ratios(_summed_rates(routers, 2), _summed_rates(routers, 1)).median
    if ratio >= ROUTERS_RATE:
        return []
    return [f"2 routers answer {ratio:.2f} times as much as one, the goal is {ROUTERS_RATE:g}"]
