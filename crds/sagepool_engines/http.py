"""Short calls to many engines: what a probe needs of HTTP.

Two ways to do it: `sagepool_operator.engine_session` where a client library is loaded anyway, and
`sagepool_router.sources.engine_http` where it would be a third of what a start costs.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

MAX_BODY_BYTES: Final = 8 << 20
"""A long page of metrics has some hundred KB."""
AT_A_TIME: Final = 200
"""Calls under way; many, because an engine that hangs keeps its turn until the time is over."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An engine's answer, whole."""

    status: int
    body: bytes


class NotAnsweredError(Exception):
    """There is no answer; the message says why."""

    def __init__(self, message: str, *, is_refused: bool = False, is_late: bool = False) -> None:
        super().__init__(message)
        self.is_refused = is_refused
        """No connection could be made: nothing listens there."""
        self.is_late = is_late
        """The time for it has run out."""


class EngineHttp(Protocol):
    """Asks engines. Both calls have a limit in time and raise NotAnsweredError."""

    async def get(self, url: str) -> Answer:
        """Ask for a page; redirects are not followed."""
        ...

    async def post(
        self, url: str, body: Mapping[str, Any], *, limit_s: float | None = None
    ) -> Answer:
        """Send a JSON object; `limit_s`: in the place of the usual limit."""
        ...


def describe_refusal(error: OSError) -> str:
    """Why there is no connection, in the system's words: event loops name a call of Python's."""
    if error.errno is not None and error.errno > 0:  # those of getaddrinfo are below
        return os.strerror(error.errno)
    return error.strerror or str(error)
