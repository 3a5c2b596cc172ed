"""`python -m bench`: what the router costs, beside other ways to do the same, in one run."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.ending import run_to_end
from bench.environments import Environments
from bench.errors import CannotMeasure
from bench.goals import NEEDED_TARGETS, NEEDED_WORKLOADS, Results, misses
from bench.machine import read_facts, read_siblings
from bench.measure import Meter
from bench.peers import PEERS, install_peers, read_version
from bench.plot import draw, write_plot
from bench.programs import build_programs, cache_folder
from bench.report import Run, render, write_figures
from bench.rounds import LIMITS_OF, run_rounds
from bench.starts import Start, Starts, measure_start
from bench.targets import (
    BUILT_IN,
    DIRECT,
    Cores,
    Target,
    build_command,
    engine_running,
    free_port,
    parse_baselines,
    target_running,
)
from bench.workloads import Workload, build_workloads
from sagepool_cluster.progress import Progress

PAGE: Final = Path(__file__).parent.parent / "docs" / "benchmarks.md"
PLOT: Final = PAGE.with_suffix(".svg")
IMAGE: Final = f"![CPU time, latency and memory of each target]({PLOT.name})"


START: Final = "start"
"""Named like a workload; it is measured before them."""
ALL: Final = (*BUILT_IN, *PEERS)


class Lines:
    """Says what goes on, a line each, on standard error."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def say(self, message: str) -> None:
        """Write the line, with the seconds since the start."""
        print(
            f"bench {time.monotonic() - self._started:6.1f}s  {message}",
            file=sys.stderr,
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status: 0, 1 with a sentence on what is wrong, or 130."""
    options = _parser().parse_args(arguments)
    return run_to_end(lambda: _run(options, Lines()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--rounds", type=_positive, help="measure everything so often (5; with --quick, 1)"
    )
    parser.add_argument(
        "--streams", type=_positive, help="open at once for memory (1000; with --quick, 300)"
    )
    parser.add_argument("--quick", action="store_true", help="a short look, within a minute")
    parser.add_argument("--targets", nargs="+", choices=ALL, default=ALL, help="leave others out")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help="leave others out")
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="one more program to compare; it gets two arguments, its port and the engine's",
    )
    parser.add_argument(
        "--check", action="store_true", help="fail when the router misses its goals"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"put the tables into docs/{PAGE.name}, and the bars beside it",
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return value


def _run(options: argparse.Namespace, progress: Progress) -> int:
    rounds = options.rounds or (1 if options.quick else 5)
    streams = options.streams or (300 if options.quick else 1000)
    workloads = _select(build_workloads(streams, quick=options.quick), options.workloads)
    starts = rounds if not options.workloads or START in options.workloads else 0
    facts = read_facts()
    bed = _prepare(options, progress)
    if options.check:
        _require_goals(bed.names, workloads)
    results = _measure(bed, workloads, rounds, starts, progress)
    facts = {**facts, **{name: read_version(name) for name in bed.peers}}
    report = render(Run(results, workloads, bed.names, facts, rounds))
    print(report)
    if options.write:
        write_figures(PAGE, f"{IMAGE}\n\n{report}")
        write_plot(PLOT, draw(results.samples, bed.names))
    missed = misses(results) if options.check else []
    for sentence in missed:
        print(f"bench: {sentence}", file=sys.stderr)
    return 1 if missed else 0


@dataclass(frozen=True, slots=True)
class Bed:
    """Who is measured, and where their programs are."""

    names: Sequence[str]
    baselines: Mapping[str, Sequence[str]]
    peers: Mapping[str, Path]

    def command(self, name: str, port: int, engine_port: int, folder: Path) -> list[str]:
        """The command that starts the target."""
        return build_command(name, self.baselines, port, engine_port, folder, self.peers)


def _prepare(options: argparse.Namespace, progress: Progress) -> Bed:
    """Install what can be had; the others are left out."""
    baselines = parse_baselines(options.baseline)
    wanted = [name for name in options.targets if name in PEERS]
    peers = install_peers(wanted, Environments(cache_folder(), progress), progress)
    names = [name for name in options.targets if name in BUILT_IN or name in peers]
    return Bed([*names, *baselines], baselines, peers)


def _select(workloads: tuple[Workload, ...], names: Sequence[str] | None) -> tuple[Workload, ...]:
    known = [*(workload.name for workload in workloads), START]
    for name in names or ():
        if name not in known:
            raise CannotMeasure(f"no workload {name}: choose from {', '.join(known)}")
    chosen = tuple(workload for workload in workloads if not names or workload.name in names)
    for number, workload in enumerate(chosen):
        if workload.share and LIMITS_OF not in {before.name for before in chosen[:number]}:
            raise CannotMeasure(f"{workload.name} needs {LIMITS_OF}: name it too")
    return chosen


def _require_goals(names: Sequence[str], workloads: Sequence[Workload]) -> None:
    here = {*names, *(workload.name for workload in workloads)}
    lacking = (NEEDED_TARGETS | NEEDED_WORKLOADS) - here
    if lacking:
        raise CannotMeasure(f"--check needs {' and '.join(sorted(lacking))}: do not leave it out")


def _measure(
    bed: Bed, workloads: Sequence[Workload], rounds: int, starts: int, progress: Progress
) -> Results:
    """Start everything, warm it up, measure, and stop everything, whatever happens."""
    cores = choose_cores(os.sched_getaffinity(0), read_siblings)
    programs = build_programs(progress)
    os.sched_setaffinity(0, {cores.load})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        engine = stack.enter_context(engine_running(programs.engine, cores.engine))
        started = _measure_starts(bed, engine.port, cores, starts, progress, folder)
        targets: list[Target] = []
        for name in bed.names:
            if name == DIRECT:
                targets.append(engine)
                continue
            port = free_port()
            command = bed.command(name, port, engine.port, folder)
            targets.append(stack.enter_context(target_running(name, command, port, cores.router)))
            progress.say(f"{name} answers")
        meter = Meter(programs.client, engine, cores)
        return Results(run_rounds(meter, targets, workloads, rounds, progress), started)


def _measure_starts(
    bed: Bed, engine_port: int, cores: Cores, rounds: int, progress: Progress, folder: Path
) -> Starts:
    """Start each target and stop it again, round after round, while nothing else runs."""
    starts: dict[str, list[Start]] = {}
    for number in range(rounds):
        for name in bed.names:
            if name != DIRECT:
                port = free_port()
                command = bed.command(name, port, engine_port, folder)
                start = measure_start(name, command, port, cores.router)
                starts.setdefault(name, []).append(start)
        progress.say(f"round {number + 1} of {rounds}: starts")
    return starts


def choose_cores(available: Set[int], siblings: Callable[[int], Set[int]]) -> Cores:
    """One core for the load, another for what is measured, a third for the engine if there is one.

    Raises CannotMeasure where there is but one.
    """
    if len(available) < 2:
        raise CannotMeasure("measuring needs two CPU cores: one for the load, one for the router")
    load, router, *others = order_cores(available, siblings)
    return Cores(load, router, others[0] if others else load)


def order_cores(available: Set[int], siblings: Callable[[int], Set[int]]) -> list[int]:
    """The cores, those first that are physical ones of their own.

    A sibling thread takes a third of the time away. `siblings` are the logical cores of the same
    physical one.
    """
    apart: list[int] = []
    for core in sorted(available):
        if siblings(core).isdisjoint(apart):
            apart.append(core)
    return apart + sorted(available - set(apart))
