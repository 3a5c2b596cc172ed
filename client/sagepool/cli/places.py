"""Which pool or engine of this machine a command means, and how its state is shown."""

import os
import sys
from typing import TYPE_CHECKING, Final

from sagepool.cli import output
from sagepool.cli.output import Output, columns
from sagepool.laptop.errors import NothingFound, WrongUse
from sagepool.laptop.home import Home

if TYPE_CHECKING:
    from sagepool.laptop.home import Place, PlaceKind
    from sagepool.laptop.status import PartStatus, Status

_WATCH_S: Final = 1.0
_STARTS: Final = {"pool": "sage inference start", "engine": "sage llm run"}
_STATUSES: Final = {"pool": "sage inference status", "engine": "sage llm status"}


def home() -> Home:
    """Where this user's state is."""
    return Home.of(os.environ)


def known(kind: "PlaceKind") -> "list[Place]":
    """Places with something that runs, failed, or was killed."""
    return [place for place in home().places(kind) if place.record.exists() or place.is_taken()]


def choose(kind: "PlaceKind", name: str, *, with_logs: bool = False, way: str = "name") -> "Place":
    """The place that is named; when none is, the only one that runs, else the only dead one.

    What a crash left beside a pool that runs is not what people mean without a name.

    Args:
        kind: of the place.
        name: of it; may be empty.
        with_logs: one that ran before and left its logs will do.
        way: how the command wants it named, for messages.

    Raises:
        NothingFound: there is none.
        WrongUse: there are several.
    """
    if name:
        place = home().place(kind, name)
        is_here = place.record.exists() or place.is_taken()
        if not (place.logs.is_dir() if with_logs else is_here):
            raise NothingFound(f"no {kind} {name} runs here: see `{_STATUSES[kind]}`")
        return place
    found = known(kind)
    if not found and with_logs:
        found = list(home().places(kind))
    if not found:
        raise NothingFound(f"no {kind} runs here: start one with `{_STARTS[kind]}`")
    meant = [place for place in found if place.is_taken()] or found
    if len(meant) > 1:
        names = ", ".join(place.name for place in meant)
        raise WrongUse(f"several are here: {way} one of {names}")
    return meant[0]


def statuses(kind: "PlaceKind", name: str) -> "list[Status]":
    """The status of the place that is named, or of all."""
    from sagepool.laptop.status import read_status

    chosen = [choose(kind, name)] if name else known(kind)
    found = [read_status(place) for place in chosen]
    return [status for status in found if status is not None]


def print_statuses(kind: "PlaceKind", name: str, form: Output, *, watch: bool) -> int:
    """Print how the place that is named, or all, are doing. Returns the exit code.

    Raises:
        NothingFound: nothing runs.
    """
    if watch:
        output.show(lambda: statuses(kind, name), page, form, _WATCH_S)
    found = statuses(kind, name)
    if not found:
        raise NothingFound(f"no {kind} runs here: start one with `{_STARTS[kind]}`")
    value = [status.to_builtins() for status in found]
    output.write(value, form, lambda: page(found))
    return 0 if all(status.is_ready for status in found) else 1


def print_logs(place: "Place", part: str, lines: int, *, follow: bool) -> None:
    """Print the last lines of the logs, and go on if asked to."""
    from sagepool.laptop import logs

    for text in logs.read(logs.log_files(place, part), lines, follow=follow):
        sys.stdout.write(text)
        sys.stdout.flush()


def page(shown: "list[Status]") -> str:
    """The statuses for people."""
    blocks = []
    for status in shown:
        line = f"{status.name}: {status.outcome}, {status.address}/v1, for {_span(status.since_s)}"
        lines = [line, *([status.message] if status.message else [])]
        if status.parts:
            lines.append(columns(_HEAD, [_row(part) for part in status.parts]))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) or "nothing runs here"


_HEAD: Final = (
    "PART", "MODELS", "PHASE", "IN FLIGHT", "CAPACITY", "TOKENS/S", "RESTARTS", "PID", "MESSAGE"
)  # fmt: skip


def _row(part: "PartStatus") -> tuple[object, ...]:
    return (
        part.name,
        ",".join(part.models),
        part.phase,
        part.in_flight,
        part.capacity,
        part.tokens_per_second,
        part.restarts,
        part.pid,
        part.message,
    )


def _span(seconds: float) -> str:
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole % 86400 // 3600, whole % 3600 // 60
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{whole % 60}s" if minutes else f"{whole}s"
