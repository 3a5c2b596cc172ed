"""What every source of the table can do and says of itself."""

from dataclasses import dataclass
from typing import NoReturn, Protocol


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a source is doing now."""

    kind: str
    """kubernetes or file."""
    target: str
    """What it follows: a pool's namespace and name, or a path."""
    is_connected: bool
    """It sees every change as it happens."""
    lasted_s: float
    """For how long it has been so."""
    error: str = ""
    """Why it is not connected, in words."""
    problems: tuple[str, ...] = ()
    """What it read and could not use, a sentence each."""


class Source(Protocol):
    """Follows a pool and its instances and publishes a table at every change."""

    async def run(self) -> NoReturn:
        """Follow until cancelled; an error that comes out of it is a mistake in our code."""

    def status(self) -> SourceStatus:
        """How it is doing now."""
