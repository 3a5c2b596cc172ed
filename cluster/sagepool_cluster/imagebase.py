"""A base for podman where no registry can be reached, and what pip needs during the build."""

import configparser
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sagepool_cluster.commands import run, succeeds
from sagepool_cluster.prerequisites import ensure_packages, missing_packages, this_host
from sagepool_cluster.progress import Progress

USUAL_BASE = "docker.io/library/python:3.12-slim"
"""The Dockerfile's own, spelt out: podman asks which registry is meant by a short name."""

SUITE = "bookworm"
_LOCAL_BASE = f"localhost/sagepool-base:{SUITE}-2"

_PACKAGES = ("ca-certificates", "python3", "python3-venv", "usr-is-merged")

# mmdebstrap's own way to one /usr; without it a package does it that brings all of Perl.
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"

# Nobody reads manuals in a container.
_UNNEEDED = ("doc", "info", "locale", "man")

_BOOTSTRAP_LIMIT_S = 600.0


def find_podman_base(cache: Path, progress: Progress) -> str | None:
    """Return the base to build from; None for the Dockerfile's own.

    That one is used where it can be had. Else one with the same programs is made from Debian
    packages, once: its name carries its version.
    """
    if succeeds(["podman", "image", "exists", _LOCAL_BASE]):
        return _LOCAL_BASE
    if succeeds(["podman", "image", "exists", USUAL_BASE]):
        return USUAL_BASE
    if succeeds(["podman", "pull", "--quiet", USUAL_BASE], timeout_s=300):
        return USUAL_BASE
    packages = missing_packages(this_host(), {"mmdebstrap": "mmdebstrap"})
    ensure_packages(this_host(), packages, f"building the image without {USUAL_BASE}", progress)
    progress.say(f"{USUAL_BASE} cannot be pulled: making a base from Debian packages")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        archive = Path(folder) / "base.tar"
        leave_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNNEEDED]
        # fmt: off
        run(["mmdebstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}",
             f"--hook-dir={_MERGED_USR}", *leave_out, SUITE, archive],
            timeout_s=_BOOTSTRAP_LIMIT_S)
        # fmt: on
        run(["podman", "import", archive, _LOCAL_BASE], timeout_s=300)
    return _LOCAL_BASE


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
