"""The figures as bars, in SVG. Pure but for writing the file."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from bench.figures import spread
from bench.measure import Sample, Samples
from bench.targets import ROUTER

_MEBIBYTE: Final = 1 << 20
_LONGEST: Final = 3.0
"""Bars end at so many times the median of all: one target far off would flatten the others."""
_WIDTH, _NAMES, _VALUES = 760, 110, 90
_BAR, _STEP, _HEAD, _GAP = 16, 22, 30, 14

_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.bar { fill: #8c959f }
.own { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #6e7681 }
  .own { fill: #4493f8 }
}
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of all targets."""

    title: str
    workload: str
    read: Callable[[Sample], float]
    digits: int


PANELS: Final = (
    Panel("CPU µs a chat request", "chat", lambda sample: sample.cpu_us, 0),
    Panel("CPU µs a paced chunk", "paced", lambda sample: sample.cpu_us, 1),
    Panel("CPU µs an embedded text", "embedding", lambda sample: sample.cpu_us, 0),
    Panel("ms added at half of its own limit, p99", "half", lambda s: s.added_p99_ms, 1),
    Panel("memory MiB, streams held open", "memory", lambda s: s.rss_bytes / _MEBIBYTE, 0),
)


def draw(samples: Samples, targets: Sequence[str], panels: Sequence[Panel] = PANELS) -> str:
    """Return the SVG: a panel for each figure that was measured, a bar for each target.

    A bar that would be far longer than the others is cut and marked; its number is right.
    """
    parts: list[str] = []
    y = 0
    for panel in panels:
        values = _read(samples, targets, panel)
        if values:
            parts += _draw_panel(panel, values, y)
            y += _HEAD + len(values) * _STEP + _GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" role="img">',
        f"<title>What routers cost</title><style>{_STYLE}</style>",
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _read(samples: Samples, targets: Sequence[str], panel: Panel) -> Mapping[str, float]:
    """The medians of those targets that have the figure."""
    medians = {}
    for name in targets:
        taken = samples.get((panel.workload, name), ())
        value = spread([panel.read(sample) for sample in taken]).median if taken else math.nan
        # Nothing was measured of the engine itself.
        if not math.isnan(value) and any(not math.isnan(sample.cpu_us) for sample in taken):
            medians[name] = value
    return medians


def _draw_panel(panel: Panel, values: Mapping[str, float], top: int) -> list[str]:
    middle = spread(list(values.values())).median
    end = max(min(max(values.values()), _LONGEST * middle), 1e-9)
    room = _WIDTH - _NAMES - _VALUES
    lines = [f'<text class="title" x="0" y="{top + 18}">{escape(panel.title)}</text>']
    for row, (name, value) in enumerate(values.items()):
        y = top + _HEAD + row * _STEP
        length = room * min(max(value, 0.0), end) / end
        style = "bar own" if name == ROUTER else "bar"
        number = f"{value:,.{panel.digits}f}"
        text = f"» {number}" if value > end else number
        lines += [
            f'<text x="0" y="{y + 13}">{escape(name)}</text>',
            f'<rect class="{style}" x="{_NAMES}" y="{y}" width="{length:.1f}" height="{_BAR}"/>',
            f'<text x="{_NAMES + length + 6:.1f}" y="{y + 13}">{text}</text>',
        ]
    return lines


def write_plot(path: Path, svg: str) -> None:
    """Write the file."""
    path.write_text(svg)
