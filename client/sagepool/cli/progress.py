"""Progress until everything is ready: a live table on a terminal, lines elsewhere."""

import sys
from types import TracebackType
from typing import Self

from sagepool.laptop.record import PartRecord, Record


class StartProgress:
    """Shows the parts of a launch on standard error; use it as a context manager."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
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
                print(line, file=sys.stderr, flush=True)


class _Live:
    """The live table."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), refresh_per_second=8, transient=True)
        self._live.start()

    def update(self, record: Record) -> None:
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for part in record.parts:
            done = part.phase == "ready"
            sign = Text("✓", style="green") if done else Spinner("dots")
            table.add_row(sign, Text(part.name), Text(part.message or part.phase))
        self._live.update(table)

    def close(self) -> None:
        self._live.stop()


def describe(part: PartRecord) -> str:
    """One line about a part."""
    return f"{part.name}: {part.phase}" + (f" ({part.message})" if part.message else "")
