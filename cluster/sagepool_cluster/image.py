"""Our image: named by the content of its sources, built once, kept as an archive in the cache."""

import hashlib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sagepool_cluster.build import locked
from sagepool_cluster.commands import Argument
from sagepool_cluster.config import read_config
from sagepool_cluster.imagebase import Bases, find_podman_bases
from sagepool_cluster.imagebuild import build_archive, choose_tool
from sagepool_cluster.prerequisites import Host, this_host
from sagepool_cluster.progress import Progress

REPOSITORY_ROOT = Path(__file__).parent.parent.parent

NAME = "localhost/sagepool"

TARGETS = ("runtime", "demo")
"""The Dockerfile's stages that can be asked for, the default first."""

_SOURCES = (
    ".dockerignore",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "client",
    "crds",
    "downloader",
    "hatch_build.py",
    "operator",
    "pyproject.toml",
    "requirements",
    "router",
    "sidecar",
    "simulator",
)
"""What the Dockerfile copies; a tag changes with it."""

_ARCHIVES_KEPT = 3


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is built."""

    reference: str
    archive: Path
    """As `docker save` writes it."""


def build_image(
    progress: Progress,
    target: str = TARGETS[0],
    tag: str | None = None,
    root: Path = REPOSITORY_ROOT,
    environ: Mapping[str, str] | None = None,
    host: Host | None = None,
) -> Image:
    """Return our image, built with docker or else podman unless these sources were built before.

    Args:
        progress: where to say what goes on.
        target: the stage of the Dockerfile.
        tag: by default the version and a digest of the sources, so that a changed tree has
            another tag and no node runs an older image under the same name.
        root: the repository.
        environ: SAGEPOOL_IMAGE_BASE chooses another base, SAGEPOOL_IMAGE_BUILD_BASE the one with
            a compiler that goes with it; by default this process's.
        host: the machine; by default this one.

    Raises a ClusterError.
    """
    variables = dict(os.environ if environ is None else environ)
    given = ",".join(filter(None, _given_bases(variables)))
    digest = digest_image_sources(root, target, given)
    reference = f"{image_name(target)}:{tag or f'{read_version(root)}-{digest}'}"
    folder = read_config(variables, Path.home()).cache / "images"
    archive = folder / f"{target}-{digest}{f'-{tag}' if tag else ''}.tar"
    if archive.exists():
        return Image(reference, archive)
    with locked(folder / "build.lock", progress, "another image build"):
        if not archive.exists():
            tool = choose_tool(host or this_host(), progress)
            progress.say(f"building {reference} with {tool}")
            bases = _given_bases(variables)
            if tool == "podman" and bases.runtime is None:
                bases = find_podman_bases(folder, progress)
            build_archive(tool, reference, root, _options(target, bases), archive, variables)
            _forget_older(folder, target)
            progress.say(f"built {reference} ({archive.stat().st_size // 1_000_000} MB)")
    return Image(reference, archive)


def image_name(target: str) -> str:
    """Return the repository name of the target's images."""
    return NAME if target == TARGETS[0] else f"{NAME}-{target}"


def read_version(root: Path) -> str:
    """Return the project's version."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def digest_image_sources(root: Path, target: str, base: str) -> str:
    """Return 12 hex digits that change with what goes into the image."""
    digest = hashlib.sha256(repr((target, base)).encode())
    for path in _source_files(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def _source_files(root: Path) -> Iterator[Path]:
    for name in _SOURCES:
        top = root / name
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            left_out = "__pycache__" in path.parts or path.suffix in (".pyc", ".pyo")
            if path.is_file() and not left_out:
                yield path


def _options(target: str, bases: Bases) -> list[Argument]:
    options: list[Argument] = ["--target", target]
    for argument, base in (("BASE", bases.runtime), ("BUILD_BASE", bases.build)):
        if base is not None:
            options += ["--build-arg", f"{argument}={base}"]
    return options


def _given_bases(environ: Mapping[str, str]) -> Bases:
    """What the caller has chosen; a base without another one to build in has a compiler itself."""
    runtime = environ.get("SAGEPOOL_IMAGE_BASE") or None
    return Bases(runtime, environ.get("SAGEPOOL_IMAGE_BUILD_BASE") or runtime)


def _forget_older(folder: Path, target: str) -> None:
    """Keep the newest archives of the target: a day's work would fill the disk."""
    archives = sorted(folder.glob(f"{target}-*.tar"), key=lambda one: one.stat().st_mtime)
    for archive in archives[:-_ARCHIVES_KEPT]:
        archive.unlink()
