"""A process that was started here: its output, and its end."""

import asyncio
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Final

_SILENCE_S: Final = 2.0
"""After that nobody who can be ended holds the output open."""
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


def end_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the process that started this one ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child(asyncio.SubprocessProtocol):
    """A running process. Made by `start_child`.

    Not asyncio's own Process: its `wait` waits, in some versions of Python, until nobody holds the
    output open any more. What vLLM has started does so for ever when vLLM itself was killed.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._transport: asyncio.SubprocessTransport | None = None
        self._ended = asyncio.Event()
        self._silent = asyncio.Event()
        self.pid = 0
        self.code: int | None = None
        """How it ended, as subprocess says it; None while it runs."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It has been started."""
        if isinstance(transport, asyncio.SubprocessTransport):
            self._transport = transport
            self.pid = transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It, or something that it has started, has said something."""
        self._write(data)

    def process_exited(self) -> None:
        """It has ended."""
        if self._transport is not None:
            self.code = self._transport.get_returncode()
        self._ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody can say anything any more."""
        self._silent.set()

    async def wait(self) -> int:
        """Wait for its end; the exit code, or the negative number of the signal."""
        await self._ended.wait()
        return self.code or 0

    async def finish(self) -> None:
        """Take what is left of the output of a process that has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SILENCE_S):
                await self._silent.wait()
        if self._transport is not None:
            self._transport.close()

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it, if it still runs."""
        if self._transport is not None and self.code is None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.send_signal(number)


async def start_child(
    command: Sequence[str], environment: Mapping[str, str], write: Callable[[bytes], None]
) -> Child:
    """Start a process in a session of its own, that ends with this one.

    Args:
        command: program and arguments.
        environment: all of its variables.
        write: takes what it says.

    Raises:
        OSError: it cannot be started.
    """
    parent = os.getpid()

    def in_child() -> None:
        end_with_parent()
        if os.getppid() != parent:  # it ended between the fork and the line above
            os._exit(1)

    _, child = await asyncio.get_running_loop().subprocess_exec(
        lambda: Child(write),
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(environment),
        start_new_session=True,
        preexec_fn=in_child,
    )
    return child
