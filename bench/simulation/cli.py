"""`python -m bench.simulation`: the scheduler's policies beside plain routers, in simulated time.

Nothing is measured on this machine: the same seeds give the same figures everywhere.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.errors import BenchError, CannotMeasure
from bench.simulation.calibration import MEASURED, model
from bench.simulation.costs import Costs
from bench.simulation.figures import summarise
from bench.simulation.pools import POOLS, Pool
from bench.simulation.report import BEGIN, END, JUDGED, Scene, render
from bench.simulation.runner import CONTENDERS, Run, simulate
from bench.simulation.traffic import MIXES, Mix

PAGE: Final = Path(__file__).parents[2] / "docs" / "scheduling-simulation.md"
SEEDS: Final = (1, 2, 3)
SECONDS: Final = 60.0
_QUICK_S: Final = 8.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print the report and return the exit status: 0, or 1 with what is wrong."""
    options = _parser().parse_args(arguments)
    seeds = options.seeds or (SEEDS[:1] if options.quick else SEEDS)
    seconds = options.seconds or (_QUICK_S if options.quick else SECONDS)
    pools = [pool for pool in POOLS if pool.name in options.pools]
    mixes = [mix for mix in MIXES if mix.name in options.mixes]
    costs = Costs()
    calibration = [(row, model(row, costs)) for row in MEASURED]
    scenes = []
    for pool in pools:
        for mix in mixes:
            print(f"simulating {pool.name} {mix.name}", file=sys.stderr, flush=True)
            scenes.append(simulate_scene(pool, mix, seeds, seconds))
    report = render(scenes, calibration, seeds, seconds)
    print(report)
    try:
        if options.write:
            write_figures(PAGE, report)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    missed = [scene for scene in scenes if options.check and JUDGED not in scene.front]
    for scene in missed:
        print(
            f"bench: {scene.pool.name} {scene.mix.name}: {JUDGED} is beaten; on the front: "
            f"{', '.join(scene.front)}",
            file=sys.stderr,
        )
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.simulation", description=__doc__)
    pools, mixes = [pool.name for pool in POOLS], [mix.name for mix in MIXES]
    parser.add_argument("--seeds", nargs="+", type=int, help="one run for each (1 2 3)")
    parser.add_argument("--seconds", type=float, help="of arrivals in a run (60; quick: 8)")
    parser.add_argument("--quick", action="store_true", help="one seed and short runs")
    parser.add_argument("--pools", nargs="+", choices=pools, default=pools)
    parser.add_argument("--mixes", nargs="+", choices=mixes, default=mixes)
    parser.add_argument(
        "--check", action="store_true", help=f"fail where {JUDGED} is not on the front"
    )
    parser.add_argument(
        "--write", action="store_true", help=f"put the tables into docs/{PAGE.name}"
    )
    return parser


def simulate_scene(pool: Pool, mix: Mix, seeds: Sequence[int], seconds: float) -> Scene:
    """Every contender, and each kind alone, on the same arrivals."""
    runs = [Run(pool, mix, seconds, seed) for seed in seeds]
    judged = next(contender for contender in CONTENDERS if contender.name == JUDGED)
    return Scene(
        pool,
        mix,
        {c.name: summarise([simulate(run, c) for run in runs], seconds) for c in CONTENDERS},
        summarise([simulate(run, judged, embeddings=False) for run in runs], seconds),
        summarise([simulate(run, judged, chats=False) for run in runs], seconds),
    )


def replace_figures(page: str, report: str) -> str:
    """Return the page with the report between its markers.

    Raises CannotMeasure where the page does not have each marker once, in order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise CannotMeasure(
            f"the page has no single pair of the lines {BEGIN} and {END}: restore them"
        )
    return f"{before}{BEGIN}\n\n{report}\n{END}{after}"


def write_figures(path: Path, report: str) -> None:
    """Put the report into the page. Raises CannotMeasure where the page or its markers lack."""
    try:
        page = path.read_text()
    except FileNotFoundError as error:
        raise CannotMeasure(f"there is no {path}: restore it") from error
    path.write_text(replace_figures(page, report))
