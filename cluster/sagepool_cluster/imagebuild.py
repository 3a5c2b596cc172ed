"""Building an image with docker or else podman, and keeping it as an archive."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sagepool_cluster.commands import Argument, run, succeeds
from sagepool_cluster.errors import BuildFailed, CommandFailed
from sagepool_cluster.imagebase import host_certificates, write_pip_settings
from sagepool_cluster.prerequisites import Host, ensure_packages, missing_packages
from sagepool_cluster.progress import Progress

_BUILD_LIMIT_S = 1200.0
_SAVE_LIMIT_S = 900.0
"""For images of many GB on a busy disk."""


def choose_tool(host: Host, progress: Progress) -> str:
    """Return `docker` where it answers, else `podman`, which is installed if need be."""
    if host.which("docker") is not None and succeeds(["docker", "version"], timeout_s=10):
        return "docker"
    packages = missing_packages(host, {"podman": "podman"})
    ensure_packages(host, packages, "building the image without Docker", progress)
    return "podman"


def build_archive(
    tool: str,
    reference: str,
    context: Path,
    options: Sequence[Argument],
    archive: Path,
    environ: Mapping[str, str],
) -> None:
    """Build the image and write it to `archive` as `docker save` does.

    Args:
        tool: `docker` or `podman`.
        reference: the image's name and tag.
        context: the folder from which the Dockerfile copies.
        options: of `build`, as both tools understand them.
        archive: appears when it is whole.
        environ: as of the process; its settings of pip hold inside the build too.

    Raises BuildFailed, or another ClusterError where the image cannot be written.
    """
    command: list[Argument] = [tool, "build", "--tag", reference, *options]
    if tool == "podman":
        command += _as_this_machine(archive.parent, environ)
    try:
        run([*command, context], environ=environ, timeout_s=_BUILD_LIMIT_S)
    except CommandFailed as error:
        raise BuildFailed(f"the image could not be built: {error}") from error
    part = archive.with_suffix(".part")
    part.unlink(missing_ok=True)
    save: list[Argument] = [tool, "save", "--output", part, reference]
    format_ = [] if tool == "docker" else ["--format", "docker-archive"]
    run([*save, *format_], timeout_s=_SAVE_LIMIT_S)
    part.rename(archive)


def _as_this_machine(folder: Path, environ: Mapping[str, str]) -> list[Argument]:
    """Options that let podman build where a container may do little, and pip reach its index."""
    certificates = host_certificates(environ)
    settings = write_pip_settings(folder / "pip.conf", certificates, environ)
    # Seen by the build alone, not in the image: mounts leave nothing behind. Without the
    # chroot isolation a build needs rights that a container often does not have.
    options: list[Argument] = ["--isolation", "chroot", "--volume", f"{settings}:/etc/pip.conf:ro"]
    if certificates is not None:
        options += ["--volume", f"{certificates}:{certificates}:ro"]
    return options
