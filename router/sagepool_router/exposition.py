"""Prometheus' text format 0.0.4: the few rules that a page of plain counters needs. Pure.

prometheus_client is not used: it costs memory in every router and would count on the hot path
with locks, where plain integers do.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, Literal, TypeAlias

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Type: TypeAlias = Literal["counter", "gauge", "histogram"]

_LABEL_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Page:
    """A page under construction."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, type_: Type, help_: str) -> "Family":
        """Begin a metric; its samples follow before the next one begins."""
        self._lines.append(f"# HELP {name} {help_.translate(_HELP_ESCAPES)}")
        self._lines.append(f"# TYPE {name} {type_}")
        return Family(name, self._lines)

    def text(self) -> str:
        """The page."""
        return "\n".join([*self._lines, ""])


class Family:
    """A metric of a page."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self._name = name
        self._lines = lines

    def add(self, value: float, labels: Mapping[str, str] | None = None) -> None:
        """A sample."""
        self._lines.append(f"{self._name}{_braced(labels or {})} {_number(value)}")

    def add_all(self, samples: Iterable[tuple[float, Mapping[str, str]]]) -> None:
        """A sample for each value and its labels."""
        for value, labels in samples:
            self.add(value, labels)

    def add_histogram(
        self,
        bounds: Sequence[float],
        counts: Sequence[int],
        total: float,
        labels: Mapping[str, str],
    ) -> None:
        """The samples of a histogram.

        Args:
            bounds: upper bounds, ascending.
            counts: observations in each bucket alone, and one more: those above all bounds.
            total: the sum of all observed values.
            labels: of the histogram.
        """
        cumulated = list(accumulate(counts))
        for bound, count in zip((*bounds, float("inf")), cumulated, strict=True):
            le = {**labels, "le": _number(bound)}
            self._lines.append(f"{self._name}_bucket{_braced(le)} {count}")
        self._lines.append(f"{self._name}_sum{_braced(labels)} {_number(total)}")
        self._lines.append(f"{self._name}_count{_braced(labels)} {cumulated[-1]}")


def _braced(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{value.translate(_LABEL_ESCAPES)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(value) if isinstance(value, int) else repr(float(value))
