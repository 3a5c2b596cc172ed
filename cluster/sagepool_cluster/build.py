"""Kubernetes and the tools around it, built from the Go module and cached by its content."""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sagepool_cluster.config import KUBERNETES_VERSION
from sagepool_cluster.errors import BuildFailed
from sagepool_cluster.golang import find_go
from sagepool_cluster.progress import Progress

MODULE = Path(__file__).parent.parent / "kubernetes"

PROGRESS_INTERVAL_S = 15.0

_VERSION_PACKAGE = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
# Without the version, clients that ask for it misbehave: it would read v0.0.0.
_LINKER_FLAGS = (
    f"-s -w -X {_VERSION_PACKAGE}.gitVersion=v{KUBERNETES_VERSION}"
    f" -X {_VERSION_PACKAGE}.gitMajor={_MAJOR} -X {_VERSION_PACKAGE}.gitMinor={_MINOR}"
)
_FLAGS = (
    "-trimpath",
    "-buildvcs=false",
    "-tags=providerless,selinux_no",
    f"-ldflags={_LINKER_FLAGS}",
)
# A program for an image without a C library must not need one; and one setting for all programs
# lets them share what is compiled.
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}


@dataclass(frozen=True, slots=True)
class Group:
    """Programs that are built together."""

    name: str
    packages: tuple[str, ...]

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of the programs that the group makes."""
        return tuple(package.rpartition("/")[2] for package in self.packages)


NODE = Group("node", ("./kube", "./pause", "./coredns"))
TOOLS = Group(
    "tools",
    (
        "k8s.io/kubernetes/cmd/kubectl",
        "helm.sh/helm/v3/cmd/helm",
        "github.com/yannh/kubeconform/cmd/kubeconform",
    ),
)


def digest_sources(module: Path, group: Group) -> str:
    """Return 12 hex digits that change with the module's files, the flags and the platform."""
    digest = hashlib.sha256()
    platform_facts = (platform.system(), platform.machine())
    settings = (*_FLAGS, *sorted(_ENVIRONMENT.items()), *group.packages, *platform_facts)
    digest.update(repr(settings).encode())
    for path in sorted(path for path in module.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(module)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds groups of programs into the cache."""

    cache: Path
    progress: Progress
    module: Path = MODULE
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def folder(self, group: Group) -> Path:
        """Return where the group's programs are, or will be, for the sources as they are now."""
        return self.cache / f"{group.name}-{digest_sources(self.module, group)}"

    def ensure(self, group: Group) -> Path:
        """Return the folder with the group's programs; build them first if they are not there.

        A build that is cut short leaves nothing that looks finished, and of two at once one
        waits for the other. Raises BuildFailed, or Missing where Go is missing.
        """
        folder = self.folder(group)
        if folder.is_dir():
            return folder
        self.cache.mkdir(parents=True, exist_ok=True)
        with locked(self.cache / "build.lock", self.progress, "another build"):
            if not folder.is_dir():
                self._build(group, folder)
        return folder

    def _build(self, group: Group, folder: Path) -> None:
        go = find_go(self.module / "go.mod", self.cache, self.environ, self.progress)
        programs = ", ".join(group.programs)
        self.progress.say(f"building {programs} with Go (the first time takes minutes)")
        for abandoned in self.cache.glob(".build-*"):
            shutil.rmtree(abandoned)
        target = Path(tempfile.mkdtemp(prefix=".build-", dir=self.cache))
        command = [str(go), "build", "-v", *_FLAGS, "-o", f"{target}/", *group.packages]
        environ = {**self.environ, **_ENVIRONMENT}
        with subprocess.Popen(
            command, cwd=self.module, env=environ, stderr=subprocess.PIPE, text=True
        ) as process:
            tail = self._follow(process.stderr)
        if process.returncode != 0:
            shutil.rmtree(target)
            raise BuildFailed(f"go build ended with {process.returncode}:\n" + "\n".join(tail))
        target.chmod(0o755)
        target.rename(folder)
        self.progress.say(f"built {programs}")

    def _follow(self, lines: IO[str] | None) -> list[str]:
        """Report from time to time how many packages are compiled; return the last lines."""
        seen: list[str] = []
        ended = threading.Event()

        def report() -> None:
            while not ended.wait(PROGRESS_INTERVAL_S):
                last = f", now {seen[-1]}" if seen else ""
                self.progress.say(f"compiling: {len(seen)} packages so far{last}")

        reporter = threading.Thread(target=report, name="build-progress", daemon=True)
        reporter.start()
        try:
            seen.extend(line.rstrip() for line in lines or ())
        finally:
            ended.set()
            reporter.join()
        return seen[-30:]


@contextmanager
def locked(path: Path, progress: Progress, holder: str) -> Iterator[None]:
    """Hold the lock file for the block; the kernel frees it when the process ends, however."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"waiting for {holder} to finish ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
