"""Running other programs: one way, with errors that say what ran and what it said."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sagepool_cluster.errors import CommandFailed, Missing

Argument = str | Path


def run(
    command: Sequence[Argument],
    *,
    stdin: str = "",
    environ: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> str:
    """Run the command to its end and return its standard output.

    Raises:
        Missing: there is no such program.
        CommandFailed: it ended with another status than 0, or not within `timeout_s` seconds.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, input=stdin, env=environ, timeout=timeout_s, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise Missing(f"{words[0]} is not installed: install it and try again") from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"`{' '.join(words)}` did not end within {timeout_s:g} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise CommandFailed(f"`{' '.join(words)}` ended with {done.returncode}: {said}")
    return done.stdout


def succeeds(command: Sequence[Argument], timeout_s: float = 60.0) -> bool:
    """Whether the command is there and ends with status 0 in time."""
    try:
        run(command, timeout_s=timeout_s)
    except (CommandFailed, Missing):
        return False
    return True
