"""The command line: `up` runs the demo, `down` removes what it installed.

Exit status: 0 when all was as promised, 1 when not (the output names what), 130 when interrupted.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence

from sagepool_cluster.errors import ClusterError
from sagepool_demo.errors import DemoError
from sagepool_demo.screen import Screen
from sagepool_demo.story import take_down, tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="The main job of sagepool, shown.")
    parser.add_argument("command", choices=["up", "down"])
    options = parser.parse_args(arguments)
    status = 1
    try:
        status = asyncio.run(_run(options.command))
    except* (DemoError, ClusterError) as group:
        for error in _leaves(group):
            print(f"error: {error}", file=sys.stderr)
    except* KeyboardInterrupt:
        status = 130
    return status


async def _run(command: str) -> int:
    screen = Screen(sys.stdout, time.monotonic)
    if command == "down":
        await take_down(screen)
        return 0
    return 0 if await tell(screen) else 1


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
