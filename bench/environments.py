"""Virtual environments for programs of others, each with its pins, made when first needed."""

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import CannotMeasure
from sagepool_cluster.build import locked
from sagepool_cluster.progress import Progress

PINS: Final = Path(__file__).parent / "requirements"
INSTALL_LIMIT_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Environments:
    """Makes environments below a folder that is kept."""

    cache: Path
    progress: Progress
    pins: Path = PINS

    def folder(self, name: str) -> Path:
        """Return where the environment is, or will be, with the pins as they are now."""
        digest = hashlib.sha256((self.pins / f"{name}.txt").read_bytes())
        digest.update(f"{sys.version} {platform.machine()}".encode())
        return self.cache / f"bench-{name}-{digest.hexdigest()[:12]}"

    def ensure(self, name: str) -> Path:
        """Return the environment's folder; install it first if it is not there.

        An installation that is cut short leaves nothing that looks finished. Raises CannotMeasure
        where it cannot be installed.
        """
        folder = self.folder(name)
        done = folder / ".complete"
        if not done.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            with locked(self.cache / "bench.lock", self.progress, "another installation"):
                if not done.exists():
                    # Scripts name their interpreter by its path, so it is made where it stays.
                    shutil.rmtree(folder, ignore_errors=True)
                    self._install(name, folder)
                    done.touch()
        return folder

    def _install(self, name: str, folder: Path) -> None:
        self.progress.say(f"installing {name} into {folder} (once)")
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
        options = ["--quiet", "--disable-pip-version-check", "--no-deps"]
        commands = (
            [sys.executable, "-m", "venv", "--without-pip", str(folder)],
            # No source distributions: building one may fetch a compiler, and takes long.
            [*pip, *options, "--only-binary=:all:", "-r", str(self.pins / f"{name}.txt")],
        )
        with tempfile.TemporaryFile("w+") as log:
            for command in commands:
                try:
                    subprocess.run(
                        command, check=True, stdout=log, stderr=log, timeout=INSTALL_LIMIT_S
                    )
                except subprocess.TimeoutExpired as error:
                    raise CannotMeasure(f"not installed in {error.timeout:g} s") from error
                except (OSError, subprocess.CalledProcessError) as error:
                    raise CannotMeasure(_reason(log.fileno(), error)) from error


def _reason(log: int, error: Exception) -> str:
    """The first line of a log that says what was wrong, else the error."""
    with open(log, closefd=False) as text:
        text.seek(0)
        lines = [line.strip() for line in text]
    return next((line for line in lines if line.startswith("ERROR:")), str(error))
