"""Trying again what may pass by itself."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from sagepool_downloader.errors import HubUnreachable, StorageUnreachable

_logger: Final = logging.getLogger(__name__)
T = TypeVar("T")


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
    sleep: Callable[[float], None] = time.sleep
    """Pauses."""


def try_patiently(attempt: Callable[[], T], grown: Callable[[], int], patience: Patience) -> T:
    """Try until it succeeds; give up on what will not pass by itself, or brings nothing.

    Args:
        attempt: what to try; it fails with a DownloadError.
        grown: how much it has brought so far.
        patience: how often, and with which pauses.

    Raises:
        DownloadError: that of the last attempt.
    """
    before, failures = grown(), 0
    while True:
        try:
            return attempt()
        except (HubUnreachable, StorageUnreachable) as error:
            now = grown()
            failures = 1 if now > before else failures + 1
            before = now
            if failures >= patience.attempts:
                raise
            _logger.warning("%s; trying again", error)
            patience.sleep(patience.first_pause_s * 2 ** (failures - 1))
