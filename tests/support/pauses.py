"""Pauses between rounds of work that last until the test says so."""

import asyncio


class Pauses:
    """In the place of `asyncio.sleep`; no time goes by."""

    def __init__(self) -> None:
        self.asked_for: list[float] = []
        """Their lengths in seconds."""
        self._next = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asked_for.append(seconds)
        await self._next.wait()
        self._next.clear()

    def end(self) -> None:
        """End the present one, or the next."""
        self._next.set()
