"""What an embedded cluster needs of the machine, and how it gets there."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sagepool_cluster.commands import run
from sagepool_cluster.errors import CommandFailed, Missing, Unsupported
from sagepool_cluster.progress import Progress

PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
"""Where distributions put the CNI plugins."""

NODE_PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "prlimit": "util-linux",
    "setsid": "util-linux",
    "unshare": "util-linux",
    "socat": "socat",
}
"""The Debian package of each program that a node needs (socat: for port-forward)."""

_APT_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Host:
    """What may be asked of the machine; tests answer in its place."""

    platform: str
    user_id: int
    which: Callable[[str], str | None]

    def refusal(self) -> str | None:
        """Return why no embedded cluster can run here; None when one can."""
        if not self.platform.startswith("linux"):
            return f"it needs Linux, and this is {self.platform}"
        if self.user_id != 0:
            return "it needs root"
        return None


def this_host() -> Host:
    """Return the machine that this runs on."""
    # Some distributions keep iptables where an unprivileged PATH does not look.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    return Host(sys.platform, os.geteuid(), lambda program: shutil.which(program, path=path))


def find_plugin_folder() -> Path | None:
    """Return the folder with the CNI plugins that the pods' network is made with."""
    wanted = ("ptp", "host-local", "loopback")
    for folder in PLUGIN_FOLDERS:
        if all((folder / plugin).exists() for plugin in wanted):
            return folder
    return None


def missing_packages(host: Host, packages: dict[str, str]) -> list[str]:
    """Return the packages (sorted, once each) whose programs the host lacks."""
    return sorted({name for program, name in packages.items() if host.which(program) is None})


def ensure_packages(host: Host, packages: list[str], why: str, progress: Progress) -> None:
    """Install the Debian packages where that is safe: as root, where apt-get is.

    Raises Missing, naming all of them at once, where it is not or where apt-get fails.
    """
    if not packages:
        return
    names = " ".join(packages)
    if host.user_id != 0 or host.which("apt-get") is None:
        raise Missing(f"{why} needs {names} (names of Debian packages): install them, try again")
    progress.say(f"installing {names}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # fmt: off
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    # fmt: on
    try:
        run(["apt-get", "update", "--quiet"], environ=environ, timeout_s=_APT_LIMIT_S)
        run(install, environ=environ, timeout_s=_APT_LIMIT_S)
    except CommandFailed as error:
        raise Missing(f"{why} needs {names}, which could not be installed: {error}") from error


def ensure_node_packages(host: Host, progress: Progress) -> Path:
    """Make sure of all that a node needs; return the folder of the CNI plugins.

    Raises Unsupported where no embedded cluster can run, Missing for what is not there.
    """
    refusal = host.refusal()
    if refusal is not None:
        raise Unsupported(
            f"no embedded cluster here: {refusal}. Run as root on Linux, set KUBECONFIG to a "
            "cluster you have, or start Docker and install kind"
        )
    packages = missing_packages(host, NODE_PACKAGES)
    if find_plugin_folder() is None:
        packages.append("containernetworking-plugins")
    ensure_packages(host, packages, "an embedded cluster", progress)
    folder = find_plugin_folder()
    if folder is None:
        raise Missing("the CNI plugins ptp, host-local and loopback: install them, try again")
    return folder
