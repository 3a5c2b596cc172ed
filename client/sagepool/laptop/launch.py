"""What a supervisor is told to run. It comes over a pipe: it may hold keys."""

from typing import Any, Final

import msgspec

from sagepool.laptop.process import ProcessId
from sagepool.laptop.record import PartKind

PORT: Final = "{port}"
"""In a command line: the port that the process is given."""


class PartLaunch(msgspec.Struct):
    """One process to keep running."""

    name: str
    kind: PartKind
    command: list[str]
    health_path: str
    group: str = ""
    engine: str = ""
    models: list[str] = []
    environment: dict[str, str] = {}
    """Beside what the supervisor has itself."""
    port: int | None = None
    """None: any free one."""
    health_port: int | None = None
    """Where `health_path` is asked for, if not at `port`."""
    after: list[str] = []
    """The parts that must be ready first: two engines that load on one GPU at a time do not measure
    its free memory right."""
    gpus: dict[str, float] = {}
    """Its share of the memory of each GPU that it sees."""
    instance: dict[str, Any] | None = None
    """The InferenceInstance that the router finds it by, of its name; its addresses are filled
    in."""
    unit: str = ""
    """The part that it starts after and ends with, the first one of a unit; empty: itself. It is an
    endpoint of that part's instance."""
    roles: list[str] = []
    """Those of the endpoints that it answers."""


class Launch(msgspec.Struct):
    """A pool, or an engine alone."""

    name: str
    parts: list[PartLaunch]
    address: str
    admin: str = ""
    file: str = ""
    request: dict[str, Any] = {}
    """What was asked for, without keys: a restart asks for it again."""
    documents: list[dict[str, Any]] = []
    """The pool and its instances elsewhere, for the router."""
    parent: ProcessId | None = None
    """The process that it ends with; None: it goes on without a terminal."""
