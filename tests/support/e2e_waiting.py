"""Waiting until something in the cluster is so, with a limit and words for when it is not."""

import time
from collections.abc import Callable

_INTERVAL_S = 0.25


def wait_until(
    holds: Callable[[], object],
    what: str,
    limit_s: float = 60,
    state: Callable[[], object] = lambda: "",
) -> None:
    """Return once `holds()` is true.

    Fails with `what` and, to say how things are instead, `state()` after `limit_s` seconds.
    """
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {limit_s:g} s; {state()}"
        time.sleep(_INTERVAL_S)
