"""What runs in a place, as its supervisor writes it and the commands read it."""

import contextlib
import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from sagepool.laptop.home import Place
from sagepool.laptop.process import ProcessId

Phase: TypeAlias = Literal["waiting", "starting", "ready", "broken", "stopping"]
"""waiting: for another part, or for its next start; broken: it ended or does not answer."""
Outcome: TypeAlias = Literal["starting", "ready", "degraded", "failed", "stopping"]
PartKind: TypeAlias = Literal["router", "engine", "elsewhere"]
"""elsewhere: an engine that runs elsewhere; it has no process here."""


class PartRecord(msgspec.Struct):
    """One process, or an engine elsewhere."""

    name: str
    kind: PartKind
    group: str
    engine: str
    models: list[str]
    url: str
    phase: Phase
    instance: str = ""
    """The name by which the router knows it, with others of its unit; empty for who is none."""
    gpus: dict[str, float] = {}
    """Shares of the GPUs' memory that it was promised, by GPU."""
    process: ProcessId | None = None
    restarts: int = 0
    message: str = ""
    """What it waits for or what is wrong."""
    doing: str = ""
    """While it starts: the last line of its log."""


class Record(msgspec.Struct):
    """A pool or an engine that was started."""

    name: str
    supervisor: ProcessId
    file: str
    """The pool file that was given; empty when flags were."""
    address: str
    """Base URL for clients, without /v1."""
    admin: str
    """Base URL of the router's admin port; empty without a router."""
    outcome: Outcome
    started_at: float
    """Seconds since the epoch."""
    request: dict[str, Any] = msgspec.field(default_factory=dict)
    """With which it can be started again."""
    message: str = ""
    parts: list[PartRecord] = msgspec.field(default_factory=list)


def read_record(place: Place) -> Record | None:
    """The record; None when there is none, or it is not one."""
    try:
        return msgspec.json.decode(place.record.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def write_file(path: Path, content: bytes) -> None:
    """Write a file for this user alone, whole or not at all. Raises OSError."""
    beside = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def write_record(place: Place, record: Record) -> None:
    """Write the record. Raises OSError."""
    write_file(place.record, msgspec.json.encode(record))
