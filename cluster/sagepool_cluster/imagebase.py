"""Bases for podman where no registry can be reached, and what pip needs during the build."""

import configparser
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sagepool_cluster.commands import run, succeeds
from sagepool_cluster.prerequisites import ensure_packages, missing_packages, this_host
from sagepool_cluster.progress import Progress


class Bases(NamedTuple):
    """What the Dockerfile builds from; None: its own default."""

    runtime: str | None
    build: str | None
    """The same Python with its headers and a C compiler."""


USUAL_BASES = Bases("docker.io/library/python:3.12-slim", "docker.io/library/python:3.12")
"""The Dockerfile's own, spelt out: podman asks which registry is meant by a short name."""

SUITE = "bookworm"
_LOCAL_BASES = Bases(
    f"localhost/sagepool-base:{SUITE}-2", f"localhost/sagepool-build-base:{SUITE}-1"
)

_PACKAGES = ("ca-certificates", "python3", "python3-venv", "usr-is-merged")
_BUILD_PACKAGES = (*_PACKAGES, "gcc", "libc6-dev", "python3-dev")

# mmdebstrap's own way to one /usr; without it a package does it that brings all of Perl.
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"

# Nobody reads manuals in a container.
_UNNEEDED = ("doc", "info", "locale", "man")

_BOOTSTRAP_LIMIT_S = 600.0


def find_podman_bases(cache: Path, progress: Progress, usual: Bases = USUAL_BASES) -> Bases:
    """Return the bases to build from.

    The usual ones, a Dockerfile's own, are used where they can be had. Else ones with the same
    programs are made from Debian packages, once: their names carry their version.
    """
    if _have(_LOCAL_BASES, "image", "exists"):
        return _LOCAL_BASES
    if _have(usual, "image", "exists") or _have(usual, "pull", "--quiet"):
        return usual
    packages = missing_packages(this_host(), {"mmdebstrap": "mmdebstrap"})
    ensure_packages(this_host(), packages, f"building the image without {usual.runtime}", progress)
    progress.say(f"{usual.runtime} cannot be pulled: making a base from Debian packages")
    _make_base(cache, _LOCAL_BASES.runtime, _PACKAGES)
    _make_base(cache, _LOCAL_BASES.build, _BUILD_PACKAGES)
    return _LOCAL_BASES


def _have(bases: Bases, *command: str) -> bool:
    return all(succeeds(["podman", *command, str(base)], timeout_s=300) for base in bases)


def _make_base(cache: Path, name: str | None, packages: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        archive = Path(folder) / "base.tar"
        leave_out = [f"--dpkgopt=path-exclude=/usr/share/{path}/*" for path in _UNNEEDED]
        # fmt: off
        run(["mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}",
             f"--hook-dir={_MERGED_USR}", *leave_out, SUITE, archive],
            timeout_s=_BOOTSTRAP_LIMIT_S)
        # fmt: on
        run(["podman", "import", archive, str(name)], timeout_s=300)


def host_certificates(environ: Mapping[str, str]) -> Path | None:
    """Return the file of authorities that this machine trusts; None where the default will do."""
    for variable in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        path = Path(environ.get(variable) or "/nonexistent")
        if path.is_file():
            return path.resolve()
    default = Path("/etc/ssl/certs/ca-certificates.crt")
    return default if default.is_file() else None


def write_pip_settings(path: Path, certificates: Path | None, environ: Mapping[str, str]) -> Path:
    """Write a pip.conf that makes pip inside a build do as pip on this machine; return its path."""
    settings = configparser.ConfigParser(interpolation=None)
    settings["global"] = {}
    if certificates is not None:
        settings["global"]["cert"] = str(certificates)
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"):
        if environ.get(variable):
            name = variable.removeprefix("PIP_").lower().replace("_", "-")
            settings["global"][name] = environ[variable]
    with path.open("w") as file:
        settings.write(file)
    return path
