"""Waiting for a condition, with a limit."""

import time
from collections.abc import Callable

from sagepool_cluster.errors import ComponentFailed


def wait_until(
    holds: Callable[[], bool],
    what: str,
    limit_s: float,
    interval_s: float = 0.05,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once `holds()` is true; raise ComponentFailed naming `what` after `limit_s` s."""
    deadline = clock() + limit_s
    while not holds():
        if clock() >= deadline:
            raise ComponentFailed(f"{what}: not within {limit_s:g} s")
        sleep(interval_s)
