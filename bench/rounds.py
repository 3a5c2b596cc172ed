"""Measures every target under every workload, round after round."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from bench.errors import LoadFailed
from bench.measure import Sample, Samples
from bench.peers import PEERS
from bench.targets import DIRECT, Target
from bench.workloads import Workload, warm_up
from sagepool_cluster.progress import Progress

LONG_S: Final = 15.0
"""Five rounds of it would be most of the run."""
LIMITS_OF: Final = "chat"
"""The workload that shows what a target can answer at most."""


class Measures(Protocol):
    """What measures a target once."""

    @property
    def engine(self) -> Target:
        """The engine itself."""

    def measure(self, target: Target, workload: Workload) -> Sample:
        """Raise LoadFailed when an answer was not as it should be."""


class Rounds:
    """The samples that have been taken, and who takes no more of them.

    A program of others that cannot answer a workload is left out of it from then on, and what it
    had answered before counts no more. One of ours ends the run. Whoever takes long over a
    workload is asked once.
    """

    def __init__(
        self,
        meter: Measures,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.samples: dict[tuple[str, str], list[Sample]] = {}
        self._meter = meter
        self._progress = progress
        self._clock = clock
        self._done: set[tuple[str, str]] = set()
        """Those who failed, and those who took long."""

    def measure(self, target: Target, workload: Workload) -> Sample | None:
        """Measure once; None where the target has failed the workload or has been asked enough."""
        key = workload.name, target.name
        if key in self._done:
            return None
        began = self._clock()
        try:
            return self._measure(target, workload)
        except LoadFailed as error:
            if target.name not in PEERS:
                raise
            self._progress.say(f"{target.name} is left out: {error}")
            self._done.add(key)
            self.samples.pop(key, None)
            return None
        finally:
            if self._clock() - began > LONG_S:
                self._done.add(key)

    def _measure(self, target: Target, workload: Workload) -> Sample | None:
        if not workload.share:
            return self._meter.measure(target, workload)
        limits = self.samples.get((LIMITS_OF, target.name))
        return self._measure_open(target, workload, limits[-1].rate) if limits else None

    def _measure_open(self, target: Target, workload: Workload, limit: float) -> Sample:
        """At a part of what the target can answer; and the engine itself at the same rate."""
        asked = workload.at(workload.share * limit)
        direct = self._meter.measure(self._meter.engine, asked)
        if target.name == DIRECT:
            return direct
        return compare(self._meter.measure(target, asked), direct)

    def run(self, targets: Sequence[Target], workload: Workload) -> None:
        """Measure each target once; the first is whoever stands first."""
        taken = {}
        for target in targets:
            sample = self.measure(target, workload)
            if sample is not None:
                taken[target.name] = sample
        direct = None if workload.share else taken.get(DIRECT)
        for name, sample in taken.items():
            if direct is not None and name != DIRECT:
                sample = compare(sample, direct)
            self.samples.setdefault((workload.name, name), []).append(sample)


def run_rounds(
    meter: Measures,
    targets: Sequence[Target],
    workloads: Sequence[Workload],
    rounds: int,
    progress: Progress,
) -> Samples:
    """Warm every target up, then measure it under every workload, round after round.

    Targets take turns at being first, so that none always meets the machine in the same state.
    """
    taken = Rounds(meter, progress)
    for workload in workloads:
        for target in targets:
            taken.measure(target, warm_up(workload))
    progress.say("warmed up")
    for number in range(rounds):
        first = number % len(targets)
        for workload in workloads:
            taken.run((*targets[first:], *targets[:first]), workload)
            progress.say(f"round {number + 1} of {rounds}: {workload.name}")
    return taken.samples


def compare(sample: Sample, direct: Sample) -> Sample:
    """The sample, with what its latencies are above those of the engine itself."""
    return replace(
        sample,
        added_p50_ms=sample.p50_ms - direct.p50_ms,
        added_p99_ms=sample.p99_ms - direct.p99_ms,
    )
