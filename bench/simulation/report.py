"""The tables, as Markdown. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.simulation.calibration import Measured, Range
from bench.simulation.figures import (
    EMBEDDING_SLO_S,
    TEXTS_MARGIN,
    TTFT_MARGIN,
    TTFT_SLO_S,
    Figures,
    pareto_front,
)
from bench.simulation.pools import Pool
from bench.simulation.traffic import PRIORITY_NAMES, Mix

BEGIN: Final = "<!-- figures: written by `python -m bench.simulation --write` -->"
END: Final = "<!-- end of figures -->"

JUDGED: Final = "hybrid"
"""Who has to be on the front."""
_NOTHING: Final = "-"
_NEVER: Final = "never"


@dataclass(frozen=True, slots=True)
class Scene:
    """A pool under a mix: what each contender made of it."""

    pool: Pool
    mix: Mix
    figures: Mapping[str, Figures]
    chat_alone: Figures
    """`JUDGED` with the chats only."""
    embedding_alone: Figures
    """`JUDGED` with the embeddings only."""

    @property
    def front(self) -> list[str]:
        """Who is beaten by nobody."""
        return pareto_front(self.figures)

    @property
    def ttft_ratio(self) -> float:
        """Chat's TTFT p99 over what it is alone."""
        return self.figures[JUDGED].ttft_p99_ms / self.chat_alone.ttft_p99_ms

    @property
    def texts_ratio(self) -> float:
        """Texts a second over what they are alone."""
        return self.figures[JUDGED].texts_per_s / self.embedding_alone.texts_per_s


def render(
    scenes: Sequence[Scene],
    calibration: Sequence[tuple[Measured, Measured]],
    seeds: Sequence[int],
    seconds: float,
) -> str:
    """Return the whole report."""
    parts = [
        f"Seeds {', '.join(map(str, seeds))}, {seconds:g} simulated seconds of arrivals each; a "
        "cell counts the requests of all seeds together.",
        "### The model beside what was measured",
        render_calibration(calibration),
        "### Who is on the front",
        render_fronts(scenes),
    ]
    for scene in scenes:
        parts += [f"### {scene.pool.title}; {scene.mix.title}", render_scene(scene)]
    return "\n\n".join(parts) + "\n"


def render_calibration(rows: Sequence[tuple[Measured, Measured]]) -> str:
    """Return the table of measured rows and the model's."""
    table = [["loop", "TTFT p50 ms", "TTFT p99 ms", "chats/s", "texts/s", "call p50 ms"]]
    for measured, modelled in rows:
        pairs = (
            (measured.ttft_p50_ms, modelled.ttft_p50_ms, 0),
            (measured.ttft_p99_ms, modelled.ttft_p99_ms, 0),
            (measured.chats_per_s, modelled.chats_per_s, 1),
            (measured.texts_per_s, modelled.texts_per_s, 0),
            (measured.call_p50_ms, modelled.call_p50_ms, 0),
        )
        cells = [f"{_range(m, d)} : {_range(n, d)}" if m and n else _NOTHING for m, n, d in pairs]
        table.append([measured.title, *cells])
    return f"Each cell is measured : modelled.\n\n{_table(table)}"


def _range(values: Range, digits: int) -> str:
    low, high = (f"{value:.{digits}f}" for value in values)
    return low if low == high else f"{low}-{high}"


def render_fronts(scenes: Sequence[Scene]) -> str:
    """Return the table of the fronts, with `JUDGED` against each kind alone."""
    table = [
        [
            "pool",
            "mix",
            "on the front",
            f"{JUDGED}: TTFT p99 x chat alone",
            f"{JUDGED}: texts/s % of embeddings alone",
        ]
    ]
    table += [
        [
            scene.pool.name,
            scene.mix.name,
            ", ".join(f"**{name}**" if name == JUDGED else name for name in scene.front),
            f"{scene.ttft_ratio:.2f}",
            f"{100 * scene.texts_ratio:.0f}",
        ]
        for scene in scenes
    ]
    margins = (
        f"On the front is who is beaten by nobody: nobody has both a chat TTFT p99 that is not "
        f"longer and texts/s that are not fewer, and is more than {100 * TTFT_MARGIN:.0f} % or "
        f"{100 * TEXTS_MARGIN:.0f} % better in one of them."
    )
    return f"{margins}\n\n{_table(table)}"


def render_scene(scene: Scene) -> str:
    """Return what was asked of a pool, its table of contenders and that of priorities."""
    judged = scene.figures[JUDGED]
    offered = (
        f"Offered: {judged.chat.offered_per_s:.1f} chats/s, "
        f"{judged.embedding.offered_per_s:.1f} embedding requests/s."
    )
    front = scene.front
    rows = {
        **scene.figures,
        "chat alone": scene.chat_alone,
        "embeddings alone": scene.embedding_alone,
    }
    table = [
        [
            "policy",
            "front",
            "TTFT p50 / p99 ms",
            "chat p50 / p99 s",
            "chats/s",
            "texts/s",
            "embeddings/s",
            "embedding p50 / p99 ms",
            f"chats within {1000 * TTFT_SLO_S:.0f} ms %",
            f"embeddings within {1000 * EMBEDDING_SLO_S:.0f} ms %",
            "unanswered chats / embeddings %",
        ]
    ]
    table += [_contender(name, figures, name in front) for name, figures in rows.items()]
    return f"{offered}\n\n{_table(table)}\n\n{_priorities(scene)}"


def _contender(name: str, figures: Figures, is_on_front: bool) -> list[str]:
    chat, embedding = figures.chat, figures.embedding
    has_chats, has_texts = chat.offered_per_s > 0, embedding.offered_per_s > 0
    return [
        name,
        "yes" if is_on_front else "",
        _pair(figures.ttft_p50_ms, figures.ttft_p99_ms),
        _pair(chat.duration_p50_ms / 1000, chat.duration_p99_ms / 1000, digits=2),
        f"{chat.done_per_s:.1f}" if has_chats else _NOTHING,
        f"{figures.texts_per_s:.1f}" if has_texts else _NOTHING,
        f"{embedding.done_per_s:.1f}" if has_texts else _NOTHING,
        _pair(embedding.duration_p50_ms, embedding.duration_p99_ms),
        _percent(chat.goodput),
        _percent(embedding.goodput),
        f"{_percent(chat.unanswered)} / {_percent(embedding.unanswered)}",
    ]


def _priorities(scene: Scene) -> str:
    table = [["within the SLO %: chats / embeddings", *PRIORITY_NAMES]]
    for name, figures in scene.figures.items():
        shares = zip(figures.chat.by_priority, figures.embedding.by_priority, strict=True)
        table.append([name, *(f"{_percent(chat)} / {_percent(texts)}" for chat, texts in shares)])
    return _table(table)


def _pair(first: float, second: float, digits: int = 0) -> str:
    if math.isnan(first):
        return _NOTHING
    return f"{_number(first, digits)} / {_number(second, digits)}"


def _number(value: float, digits: int) -> str:
    return _NEVER if math.isinf(value) else f"{value:,.{digits}f}"


def _percent(share: float) -> str:
    return _NOTHING if math.isnan(share) else f"{100 * share:.1f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([header, "|" + "---|" + "--:|" * (len(rows[0]) - 1), *body])
