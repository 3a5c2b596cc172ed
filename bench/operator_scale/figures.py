"""What was measured, and what it has to be. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from bench.report import format_table

MOST_RATIO: Final = 1.5
MOST_WRITES: Final = 0
MOST_MEBIBYTES: Final = 250.0
MOST_MS: Final = 300.0
_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run."""

    pools: int
    engines: int
    """Of all pools together."""
    bare_s: float
    """Until Deployments without pools had all of their pods."""
    settled_s: float
    """Until all pools were ready, with the same pods."""
    settling_cpu_s: float
    """Of the operator, meanwhile."""
    settling_writes: int
    watched_s: float
    """How long the settled pools were watched."""
    writes: int
    """Of the operator, meanwhile."""
    cpu_s: float
    """Of the operator, meanwhile."""
    rss_bytes: int
    """The most that the operator had."""
    acted_ms: Sequence[float]
    """From the change of a pool to that of its Deployment, one pool after another."""

    @property
    def ratio(self) -> float:
        """Pools to bare Deployments."""
        return self.settled_s / self.bare_s

    def acted_within_ms(self, share: float) -> float:
        """Within which that share of the changes was acted on (nearest rank)."""
        return sorted(self.acted_ms)[max(1, ceil(share * len(self.acted_ms))) - 1]


def render(figures: Figures, facts: dict[str, str]) -> str:
    """The figures as Markdown."""
    megabytes = figures.rss_bytes / _MEBIBYTE
    half, most = figures.acted_within_ms(0.5), figures.acted_within_ms(0.99)
    share = 100 * figures.cpu_s / figures.watched_s
    rows = [
        ["bare Deployments with all pods, s", f"{figures.bare_s:.1f}", ""],
        ["pools ready, s", f"{figures.settled_s:.1f}", ""],
        ["pools to bare Deployments", f"{figures.ratio:.2f}", f"{MOST_RATIO}"],
        ["CPU of the operator meanwhile, s", f"{figures.settling_cpu_s:.1f}", ""],
        ["writes of the operator meanwhile", f"{figures.settling_writes:,}", ""],
        [
            f"writes in {figures.watched_s:.0f} s when settled",
            f"{figures.writes}",
            f"{MOST_WRITES}",
        ],
        ["CPU when settled, % of a core", f"{share:.0f}", ""],
        ["memory of the operator, MiB", f"{megabytes:.0f}", f"{MOST_MEBIBYTES:.0f}"],
        ["change of a pool acted on, p50 ms", f"{half:.0f}", ""],
        ["change of a pool acted on, p99 ms", f"{most:.0f}", f"{MOST_MS:.0f}"],
    ]
    machine = ", ".join(f"{name} {value}" for name, value in facts.items())
    table = format_table([f"{figures.pools} pools, {figures.engines:,} engines", "", "goal"], rows)
    return f"Measured on: {machine}.\n\n{table}\n"


def missed(figures: Figures) -> list[str]:
    """The goals that were missed, in words."""
    goals = (
        ("pools to bare Deployments", figures.ratio, MOST_RATIO),
        ("writes when settled", figures.writes, MOST_WRITES),
        ("MiB of memory", figures.rss_bytes / _MEBIBYTE, MOST_MEBIBYTES),
        ("ms p99 until a change is acted on", figures.acted_within_ms(0.99), MOST_MS),
    )
    return [f"{value:.2f} {what}, not {goal:g}" for what, value, goal in goals if value > goal]
