"""How a pool on this machine is doing: its record, and the live figures of its router."""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from sagepool.laptop.home import Place, PlaceKind
from sagepool.laptop.process import is_alive
from sagepool.laptop.record import PartRecord, Record, read_record

_LIMIT_S: Final = 1.0
_STOPS: Final[Mapping[PlaceKind, str]] = {
    "pool": "sage inference stop",
    "engine": "sage llm stop --port",
}


class PartStatus(msgspec.Struct):
    """One process, or an engine elsewhere."""

    name: str
    kind: str
    engine: str
    models: list[str]
    phase: str
    url: str
    pid: int | None
    restarts: int
    message: str
    in_flight: int | None = None
    """Requests that the router has on it; without a router, those that it computes or lets wait."""
    capacity: int | None = None
    """What it may have on it now."""
    tokens_per_second: float | None = None


class Status(msgspec.Struct):
    """A pool or an engine."""

    name: str
    outcome: str
    """As its supervisor says, or killed when there is none."""
    address: str
    file: str
    since_s: float
    message: str
    parts: list[PartStatus]

    @property
    def is_ready(self) -> bool:
        """Whether everything answers."""
        return self.outcome == "ready"

    def to_builtins(self) -> dict[str, Any]:
        """For JSON and YAML."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def read_status(place: Place, *, now: float | None = None) -> Status | None:
    """The status; None when nothing was started there."""
    record = read_record(place)
    if record is None:
        return None
    running = is_alive(record.supervisor)
    loads = _loads(record.admin) if running and record.admin else {}
    was_killed = not running and record.outcome != "failed"
    return Status(
        name=record.name,
        outcome="killed" if was_killed else record.outcome,
        address=record.address,
        file=record.file,
        since_s=round((time.time() if now is None else now) - record.started_at, 1),
        message=_message(place, record, was_killed=was_killed),
        parts=[
            _part(part, loads.get(part.instance, []), has_router=bool(record.admin))
            for part in record.parts
        ]
        if running
        else [],
    )


def _message(place: Place, record: Record, *, was_killed: bool) -> str:
    if was_killed:
        return (
            "its supervisor was killed, or the machine was started anew: "
            f"`{_STOPS[place.kind]} {place.name}` clears what is left, a start does so by itself"
        )
    return record.message


def _part(part: PartRecord, backends: list[dict[str, Any]], *, has_router: bool) -> PartStatus:
    status = PartStatus(
        name=part.name,
        kind=part.kind,
        engine=part.engine,
        models=part.models,
        phase=part.phase,
        url=part.url,
        pid=part.process.pid if part.process is not None else None,
        restarts=part.restarts,
        message=part.message or part.doing,
    )
    if not has_router and part.phase == "ready":
        status.in_flight = _requests_on(part)
    if part.kind != "elsewhere":  # its instance may have another process for another role
        backends = [backend for backend in backends if backend["url"] == part.url]
    if backends:
        status.in_flight = sum(backend["in_flight"] for backend in backends)
        status.capacity = sum(backend["capacity"] for backend in backends)
        status.tokens_per_second = round(sum(b["tokens_per_second"] for b in backends), 1)
    return status


def _requests_on(part: PartRecord) -> int | None:
    """What an engine's own metrics say; None when they say nothing."""
    from sagepool_engines.dialects import DIALECTS, UnexpectedAnswerError, read_load

    dialect = next((found for engine, found in DIALECTS.items() if engine == part.engine), None)
    if dialect is None:
        return None
    try:
        load = read_load(dialect, _get(part.url, dialect.metrics_path).decode(errors="replace"))
    except (OSError, http.client.HTTPException, UnexpectedAnswerError):
        return None
    return load.running + load.waiting


def _loads(admin: str) -> dict[str, list[dict[str, Any]]]:
    """The router's figures by instance; none when it does not answer."""
    try:
        table = json.loads(_get(admin, "/admin/table"))
        return {instance["name"]: instance["backends"] for instance in table["instances"]}
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return {}


def _get(url: str, path: str) -> bytes:
    """The body of an answer. Raises OSError, HTTPException, also for an answer other than 200."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=_LIMIT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"{path} answers {answer.status}")
        return answer.read()
    finally:
        connection.close()
