"""What commands print: columns for people, JSON or YAML for programs."""

import enum
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sagepool.laptop.errors import WrongUse

T = TypeVar("T")


class Output(enum.StrEnum):
    """A form of output."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def write(value: Any, output: Output, table: Callable[[], str]) -> None:
    """Print a value in the form that was asked for; `table` makes the one for people."""
    if output is Output.TABLE:
        print(table())
    elif output is Output.JSON:
        print(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        import yaml

        print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")


def show(
    read: Callable[[], T],
    table: Callable[[T], str],
    form: Output,
    interval_s: float | None,
) -> None:
    """Print what is read, once or (with an interval) until Ctrl-C.

    Raises:
        WrongUse: another form than the table is to be watched.
    """
    if interval_s is not None:
        if form is not Output.TABLE:
            raise WrongUse("--watch shows a table: leave --output out")
        watch(lambda: table(read()), interval_s)
    value = read()
    write(value, form, lambda: table(value))


def columns(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows under their heads, as kubectl prints them: no frame, no colour, fit for a pipe."""
    texts = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join(
        "   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    )


def watch(show: Callable[[], str], interval_s: float) -> None:
    """Show a page again and again until Ctrl-C.

    Raises:
        WrongUse: the output is no terminal.
    """
    if not sys.stdout.isatty():
        raise WrongUse("--watch needs a terminal: leave it out in a pipe")
    import time

    from rich.live import Live
    from rich.text import Text

    with Live(Text(show()), auto_refresh=False, screen=True) as live:
        while True:
            live.update(Text(show()), refresh=True)
            time.sleep(interval_s)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
