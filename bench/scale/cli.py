"""`python -m bench.scale`: many streams and instances, long bodies, slow readers, two routers."""

import argparse
import os
import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final

from bench.cli import PAGE, Lines, choose_cores, order_cores
from bench.ending import run_to_end
from bench.environments import Environments
from bench.machine import read_facts, read_siblings
from bench.measure import Meter, Sample
from bench.peers import PEERS, VLLM_ROUTER, install_peers, read_version
from bench.programs import Programs, build_programs, cache_folder
from bench.report import write_figures
from bench.scale.parts import (
    FULL,
    QUICK,
    Size,
    StreamRound,
    ask_routers,
    ask_tables,
    hold_streams,
    read_slowly,
    send_bodies,
)
from bench.scale.report import Scale, render_scale, scale_misses
from bench.targets import (
    BARE,
    ROUTER,
    Cores,
    Target,
    bare_command,
    build_command,
    engine_running,
    free_port,
    router_command,
    target_running,
)
from sagepool_cluster.progress import Progress

BEGIN: Final = "<!-- scale: written by `python -m bench.scale --write` -->"
END: Final = "<!-- end of scale -->"
TARGETS: Final = (BARE, ROUTER, VLLM_ROUTER)
CORES_OF_TWO: Final = 6
PARTS: Final = ("streams", "tables", "bodies", "slow", "routers")


@dataclass(frozen=True, slots=True)
class Room:
    """What every part needs."""

    size: Size
    cores: Cores
    ordered: Sequence[int]
    """All cores, those first that share none with another."""
    programs: Programs
    peers: Mapping[str, Path]
    names: Sequence[str]
    folder: Path
    progress: Progress

    @contextmanager
    def running(self, *names: str) -> Iterator[tuple[Meter, Sequence[Target]]]:
        """Run the engine and those of the targets that were asked for and are here."""
        with ExitStack() as stack:
            engine = stack.enter_context(engine_running(self.programs.engine, self.cores.engine))
            targets = []
            for name in names:
                if name not in self.names:
                    continue
                port = free_port()
                command = build_command(name, {}, port, engine.port, self.folder, self.peers)
                running = target_running(name, command, port, self.cores.router)
                targets.append(stack.enter_context(running))
            yield Meter(self.programs.client, engine, self.cores), targets


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements; 0, 1 with a sentence on what is wrong, or 130."""
    options = _parser().parse_args(arguments)
    return run_to_end(lambda: _run(options, Lines()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little of everything")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="leave others out")
    parser.add_argument(
        "--targets", nargs="+", choices=TARGETS, default=TARGETS, help="leave others out"
    )
    parser.add_argument(
        "--check", action="store_true", help="fail when the router misses its goals"
    )
    parser.add_argument(
        "--write", action="store_true", help=f"put the tables into docs/{PAGE.name}"
    )
    return parser


def _run(options: argparse.Namespace, progress: Progress) -> int:
    facts = read_facts()
    available = os.sched_getaffinity(0)
    cores = choose_cores(available, read_siblings)
    ordered = order_cores(available, read_siblings)
    programs = build_programs(progress)
    wanted = [name for name in options.targets if name in PEERS]
    peers = install_peers(wanted, Environments(cache_folder(), progress), progress)
    names = [name for name in options.targets if name not in PEERS or name in peers]
    # A stream takes two descriptors of a router.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.sched_setaffinity(0, {cores.load})
    size = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scale = _measure(
            Room(size, cores, ordered, programs, peers, names, Path(folder), progress),
            options.parts,
        )
    facts = {**facts, **{name: read_version(name) for name in peers}}
    report = render_scale(scale, facts)
    print(report)
    if options.write:
        write_figures(PAGE, report, BEGIN, END)
    missed = scale_misses(scale) if options.check else []
    for sentence in missed:
        print(f"bench: {sentence}", file=sys.stderr)
    return 1 if missed else 0


def _measure(room: Room, parts: Sequence[str]) -> Scale:
    """The parts that were asked for, each with an engine and targets of its own."""
    scale = Scale()
    if "streams" in parts:
        scale = replace(scale, streams=_streams(room))
    if "tables" in parts:
        scale = replace(scale, tables=_tables(room))
    if "bodies" in parts:
        with room.running(BARE, ROUTER, VLLM_ROUTER) as (meter, targets):
            scale = replace(scale, bodies=send_bodies(meter, targets, room.size))
        room.progress.say("bodies")
    if "slow" in parts:
        with room.running(ROUTER, VLLM_ROUTER) as (meter, targets):
            slow = [read_slowly(meter, target, room.size) for target in targets]
        scale = replace(scale, slow=slow)
        room.progress.say("slow readers")
    if "routers" in parts:
        scale = replace(scale, routers=_routers(room))
    return scale


def _streams(room: Room) -> Sequence[StreamRound]:
    size = room.size
    plan = (*size.streams, *[max(size.streams)] * size.more_rounds)
    rounds: list[StreamRound] = []
    for name in (ROUTER, VLLM_ROUTER):
        # One at a time: what the other keeps in the kernel would be in the way.
        with room.running(name) as (meter, targets):
            for target in targets:
                for streams in plan:
                    rounds.append(hold_streams(meter, target, streams, size.hold_s / 2))
                    room.progress.say(f"{name}: {streams:,} streams")
    return rounds


def _routers(room: Room) -> Mapping[int, Sequence[Sample]]:
    """Two routers before one engine; the engine has two cores, each router and its load one."""
    if len(room.ordered) < CORES_OF_TWO:
        room.progress.say(f"two routers are left out: that needs {CORES_OF_TWO} CPU cores")
        return {}
    first, second, *others = room.ordered
    with ExitStack() as stack:
        engine = stack.enter_context(engine_running(room.programs.engine, first, second))
        pairs = []
        for load, core in (others[:2], others[2:4]):
            port = free_port()
            command = router_command(port, engine.port, room.folder)
            router = stack.enter_context(target_running(ROUTER, command, port, core))
            pairs.append((Meter(room.programs.client, engine, Cores(load, core, first)), router))
        samples = ask_routers(pairs, room.size)
    room.progress.say("two routers")
    return samples


def _tables(room: Room) -> Mapping[tuple[int, str], Sequence[Sample]]:
    counts = room.size.instances
    with ExitStack() as stack:
        engine = stack.enter_context(
            engine_running(room.programs.engine, room.cores.engine, addresses=max(counts))
        )
        targets = {}
        for count, name in product(counts, (BARE, ROUTER)):
            port = free_port()
            command = (
                router_command(port, engine.port, room.folder, count)
                if name == ROUTER
                else bare_command(port, engine.port, count)
            )
            running = target_running(name, command, port, room.cores.router)
            targets[count, name] = stack.enter_context(running)
        meter = Meter(room.programs.client, engine, room.cores)
        samples = ask_tables(meter, targets, room.size)
    room.progress.say("tables")
    return samples
