"""Trying again what may pass by itself."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from sagepool_downloader.errors import DownloadError, HubUnreachable, StorageUnreachable

_logger: Final = logging.getLogger(__name__)
T = TypeVar("T")
E = TypeVar("E", bound=Exception)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the other side is waited for."""

    connect_s: float = 10.0
    silence_s: float = 30.0
    """Without a single byte."""
    attempts: int = 6
    """In a row that bring nothing; one byte more, and the count begins anew."""
    first_pause_s: float = 1.0
    """Before the second attempt; doubled before each further one."""


def try_patiently(
    attempt: Callable[[], T],
    grown: Callable[[], int],
    failure: type[E],
    explain: Callable[[E], DownloadError],
    patience: Patience,
    sleep: Callable[[float], None],
) -> T:
    """Try until it succeeds; give up on what will not pass by itself, or brings nothing.

    Args:
        attempt: what to try.
        grown: how much it has brought so far.
        failure: what it raises when it fails.
        explain: what such an error means.
        patience: how often, and with which pauses.
        sleep: pauses.
    """
    before, failures = grown(), 0
    while True:
        try:
            return attempt()
        except failure as error:
            cause = explain(error)
            now = grown()
            failures = 1 if now > before else failures + 1
            before = now
            may_pass = isinstance(cause, HubUnreachable | StorageUnreachable)
            if not may_pass or failures >= patience.attempts:
                raise cause from error
            _logger.warning("%s; trying again", cause)
            sleep(patience.first_pause_s * 2 ** (failures - 1))
