"""Runs other programs, and reads what they say while they run."""

import asyncio
import shlex
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from sagepool_demo.errors import ProgramFailed

_LONGEST_LINE = 1 << 20
_LONGEST_COMPLAINT = 600


async def run_program(command: Sequence[str | Path], *, stdin: str | None = None) -> str:
    """Run a program to its end and return its standard output.

    Raises:
        ProgramFailed: there is no such program, or its exit status is not 0.
    """
    async with _started(command, DEVNULL if stdin is None else PIPE) as process:
        out, err = await process.communicate(None if stdin is None else stdin.encode())
        if process.returncode != 0:
            said = (err or out).decode(errors="replace")
            raise _failure(command, process.returncode, said)
    return out.decode()


async def read_lines(command: Sequence[str | Path]) -> AsyncGenerator[str, None]:
    """The lines of a program's standard output as they come; leaving early ends the program.

    Raises:
        ProgramFailed: there is no such program, or its exit status is not 0.
    """
    async with _started(command, DEVNULL) as process:
        if process.stdout is None or process.stderr is None:  # both are pipes, as asked for above
            raise ProgramFailed(f"{command[0]} has no output to read")
        complaints = asyncio.create_task(process.stderr.read())
        async for line in process.stdout:
            yield line.decode(errors="replace").rstrip("\n")
        said = (await complaints).decode(errors="replace")
        if await process.wait() != 0:
            raise _failure(command, process.returncode, said)


@asynccontextmanager
async def _started(command: Sequence[str | Path], stdin: int) -> AsyncIterator[Process]:
    try:
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=stdin,
            stdout=PIPE,
            stderr=PIPE,
            limit=_LONGEST_LINE,
        )
    except FileNotFoundError as error:
        raise ProgramFailed(f"{command[0]} is not there: install it and try again") from error
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _failure(command: Sequence[str | Path], status: int | None, said: str) -> ProgramFailed:
    words = shlex.join(map(str, command))
    complaint = " ".join(said.split())[-_LONGEST_COMPLAINT:]
    return ProgramFailed(f"`{words}` ended with {status}: {complaint}".rstrip(": "))
