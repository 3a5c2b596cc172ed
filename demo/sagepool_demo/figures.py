"""What many requests add up to. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from sagepool_demo.events import Finished, KindFigures, Progressed

Kind: TypeAlias = Literal["streamed chat", "chat", "embeddings"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request and what came of it."""

    kind: Kind
    started_s: float
    """Seconds from the beginning of the traffic."""
    latency_s: float
    first_token_s: float | None = None
    """Seconds to the first piece of text; None where nothing streams."""
    instance: str = ""
    """Who answered; empty when nobody said so."""
    failure: str = ""
    """Why it failed; empty when it did not."""

    @property
    def ended_s(self) -> float:
        """Seconds from the beginning of the traffic."""
        return self.started_s + self.latency_s


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least `percent` of a hundred values do not exceed (nearest rank).

    None when there are no values.
    """
    if not values:
        return None
    rank = max(1, math.ceil(len(values) * percent / 100))
    return sorted(values)[rank - 1]


def summarise_progress(outcomes: Sequence[Outcome], elapsed_s: float) -> Progressed:
    """How it goes so far."""
    return Progressed(
        elapsed_s=elapsed_s,
        requests=len(outcomes),
        failures=sum(bool(o.failure) for o in outcomes),
        answered=Counter(o.instance for o in outcomes if not o.failure),
    )


def summarise(outcomes: Sequence[Outcome], elapsed_s: float) -> Finished:
    """What came of all of them."""
    answered: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        if not outcome.failure:
            answered.setdefault(outcome.instance, Counter())[outcome.kind] += 1
    return Finished(
        elapsed_s=elapsed_s,
        kinds=tuple(_kind_figures(kind, outcomes) for kind in KINDS),
        answered={name: dict(counts) for name, counts in sorted(answered.items())},
        reasons=Counter(o.failure for o in outcomes if o.failure),
    )


def _kind_figures(kind: Kind, outcomes: Iterable[Outcome]) -> KindFigures:
    mine = [o for o in outcomes if o.kind == kind]
    good = [o for o in mine if not o.failure]
    latencies = [o.latency_s for o in good]
    first_tokens = [o.first_token_s for o in good if o.first_token_s is not None]
    return KindFigures(
        kind=kind,
        requests=len(mine),
        failures=len(mine) - len(good),
        p50_s=percentile(latencies, 50),
        p99_s=percentile(latencies, 99),
        first_token_p50_s=percentile(first_tokens, 50),
        first_token_p99_s=percentile(first_tokens, 99),
    )
