"""`with` blocks for what has a `close`."""

from types import TracebackType
from typing import Self


class Closing:
    """Closed at the end of its `with` block."""

    def close(self) -> None:
        """Close it; a second time does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Close it when the block ends."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


class AsyncClosing:
    """Closed at the end of its `async with` block."""

    async def close(self) -> None:
        """Close it; a second time does nothing."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """Close it when the block ends."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()
