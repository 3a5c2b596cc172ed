"""Waiting on conditions, with a limit."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Let the event loop run until the condition holds.

    Raises:
        TimeoutError: it did not hold in time.
    """
    async with asyncio.timeout(limit_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)
