"""A downloader as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIMIT_S = 20.0


class DownloaderProcess:
    """`sagepool-downloader fetch`, running."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.process = process
        self.url = url
        """Where it serves its progress."""

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(_LIMIT_S)

    def kill(self) -> None:
        """End it as a node that fails does."""
        self.process.kill()
        self.wait()


def run_downloader(*arguments: str, token: str = "") -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    return subprocess.run(
        _command(arguments),
        env=_environ(token),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )


@contextmanager
def downloader(hub: str, root: Path, *arguments: str) -> Iterator[DownloaderProcess]:
    """Start it for acme/tiny and yield it when it serves; it is killed at the end."""
    process = subprocess.Popen(
        _command(
            (
                "fetch",
                "--uri=hf://acme/tiny",
                f"--hub={hub}",
                f"--root={root}",
                "--folder=tiny",
                "--host=127.0.0.1",
                "--port=0",
                *arguments,
            )
        ),
        env=_environ(""),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "serving" in line, line
        yield DownloaderProcess(process, f"http://{line.split()[-1]}")
    finally:
        process.kill()
        process.communicate(timeout=_LIMIT_S)


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "sagepool_downloader.cli", *arguments]


def _environ(token: str) -> dict[str, str]:
    given = {**os.environ, "NO_PROXY": "127.0.0.1"}
    return {**given, "HF_TOKEN": token} if token else given
