"""Progress until everything is ready: a live table on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from sagepool.laptop.record import PartRecord, Record

if TYPE_CHECKING:
    from rich.table import Table

_NEWS_S: Final = 30.0
"""Between two lines of a log that are told where lines stay."""


class StartProgress:
    """Shows the parts of a launch on standard error; use it as a context manager."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a clock: seconds, monotonic."""
        self._clock = clock
        self._shown: dict[str, str] = {}
        self._told_at: dict[str, float] = {}
        self._live: _Live | None = _Live() if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        """Begin to show."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.close()

    def show(self, record: Record) -> None:
        """Show what is new."""
        if self._live is not None:
            self._live.update(record)
            return
        for part in record.parts:
            line = describe(part)
            if self._shown.get(part.name) != line:
                self._shown[part.name] = line
                self._tell(part, line)
            elif part.doing and self._clock() - self._told_at[part.name] >= _NEWS_S:
                self._tell(part, f"{line}: {part.doing}")

    def _tell(self, part: PartRecord, line: str) -> None:
        self._told_at[part.name] = self._clock()
        print(line, file=sys.stderr, flush=True)


class _Live:
    """The live table."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), refresh_per_second=8, transient=True)
        self._live.start()

    def update(self, record: Record) -> None:
        self._live.update(table(record))

    def close(self) -> None:
        self._live.stop()


def table(record: Record) -> "Table":
    """A line a part, cut to the width of the terminal."""
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    found = Table.grid(padding=(0, 2))
    found.add_column(no_wrap=True, min_width=1)
    names = max((len(part.name) for part in record.parts), default=0)
    found.add_column(no_wrap=True, min_width=names)  # what is cut is what a part does
    found.add_column(no_wrap=True, overflow="ellipsis")
    for part in record.parts:
        done = part.phase == "ready"
        sign = Text("✓", style="green") if done else Spinner("dots")
        words = ": ".join(filter(None, (part.message or part.phase, part.doing)))
        found.add_row(sign, Text(part.name), Text(words))
    return found


def describe(part: PartRecord) -> str:
    """One line about a part."""
    return f"{part.name}: {part.phase}" + (f" ({part.message})" if part.message else "")
