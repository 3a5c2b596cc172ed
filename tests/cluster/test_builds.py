"""What is built once, and when it is built again."""

import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from cluster_fakes import Journal
from sagepool_cluster.archive import write_program_image
from sagepool_cluster.build import TOOLS, Builder, digest_sources, locked
from sagepool_cluster.errors import BuildFailed, CommandFailed
from sagepool_cluster.golang import required_version
from sagepool_cluster.image import build_image, digest_image_sources
from sagepool_cluster.imagebuild import build_archive
from sagepool_cluster.progress import Silence


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "go.mod").write_text("module a.test/b\n\ngo 1.20\n")
    return folder


def fake_go(folder: Path, body: str) -> dict[str, str]:
    """Return an environment whose `go` reports a version and otherwise runs the body."""
    folder.mkdir()
    program = folder / "go"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = version ] && echo go version go1.30.1 && exit\n{body}\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


# The argument after -o is the folder to build into.
WRITES = 'while [ "$1" != -o ]; do shift; done; echo k8s.io/api >&2; touch "$2/kubectl"'


def test_the_digest_changes_with_a_files_content_and_name(module: Path) -> None:
    digests = {digest_sources(module, TOOLS)}
    (module / "main.go").write_text("package main\n")
    digests.add(digest_sources(module, TOOLS))
    (module / "main.go").rename(module / "other.go")
    digests.add(digest_sources(module, TOOLS))
    assert len(digests) == 3


def test_a_build_is_done_once_and_appears_whole(module: Path, tmp_path: Path) -> None:
    journal = Journal()
    builder = Builder(tmp_path / "cache", journal, module, fake_go(tmp_path / "bin", WRITES))
    folder = builder.ensure(TOOLS)
    assert (folder / "kubectl").exists()
    said = list(journal.lines)
    assert builder.ensure(TOOLS) == folder
    assert journal.lines == said


def test_a_build_that_fails_says_why_and_leaves_nothing(module: Path, tmp_path: Path) -> None:
    broken = fake_go(tmp_path / "bin", "echo undefined: x >&2; exit 1")
    builder = Builder(tmp_path / "cache", Silence(), module, broken)
    with pytest.raises(BuildFailed, match="undefined: x"):
        builder.ensure(TOOLS)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"build.lock"}


def test_what_an_interrupted_build_left_is_removed(module: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / ".build-old").mkdir(parents=True)
    Builder(cache, Silence(), module, fake_go(tmp_path / "bin", WRITES)).ensure(TOOLS)
    assert not (cache / ".build-old").exists()


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    journal = Journal()
    for _ in range(2):
        with locked(tmp_path / "lock", journal, "another"):
            pass
    assert journal.lines == []


def test_the_wanted_go_is_the_modules() -> None:
    assert required_version("module a\n\ngo 1.26\n\nrequire x v1\n") == (1, 26)


def test_a_programs_image_is_what_docker_save_would_write(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")
    write_program_image(tmp_path / "a.tar", "localhost/pause:1", program)
    write_program_image(tmp_path / "b.tar", "localhost/pause:1", program)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        files = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr] # all are files
    (manifest,) = json.loads(files["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/pause:1"]
    assert json.loads(files[manifest["Config"]])["config"]["Entrypoint"] == ["/pause"]
    with tarfile.open(fileobj=io.BytesIO(files[manifest["Layers"][0]])) as layer:
        assert layer.getmember("pause").mode == 0o755


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "router" / "__pycache__").mkdir(parents=True)
    for name in (".dockerignore", "Dockerfile", "LICENSE", "README.md"):
        (root / name).write_text(name)
    (root / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (root / "router" / "a.py").write_text("a = 1\n")
    return root


def test_an_images_digest_changes_with_its_sources_target_and_base(repository: Path) -> None:
    digests = {
        digest_image_sources(repository, "runtime", ""),
        digest_image_sources(repository, "demo", ""),
        digest_image_sources(repository, "runtime", "debian:13"),
    }
    (repository / "router" / "a.py").write_text("a = 2\n")
    digests.add(digest_image_sources(repository, "runtime", ""))
    assert len(digests) == 4


def test_what_is_no_part_of_an_image_leaves_its_digest(repository: Path) -> None:
    before = digest_image_sources(repository, "runtime", "")
    (repository / "router" / "__pycache__" / "a.pyc").write_bytes(b"x")
    (repository / "tests").mkdir()
    (repository / "tests" / "test_a.py").write_text("")
    assert digest_image_sources(repository, "runtime", "") == before


def test_sources_that_were_built_are_not_built_again(repository: Path, tmp_path: Path) -> None:
    digest = digest_image_sources(repository, "runtime", "")
    archive = tmp_path / "cache" / "sagepool" / "images" / f"runtime-{digest}.tar"
    archive.parent.mkdir(parents=True)
    archive.touch()
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    image = build_image(Silence(), root=repository, environ=environ)
    assert image.archive == archive
    assert image.reference == f"localhost/sagepool:1.2.3-{digest}"


TOOL = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
[ "$1" = "$FAILS_AT" ] && echo no space left >&2 && exit 1
[ "$1" = save ] && echo layers > "$3"
exit 0
"""


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """A docker that does nothing but note what it is asked for."""
    path = tmp_path / "docker"
    path.write_text(TOOL)
    path.chmod(0o755)
    return path


def build_with(tool: Path, **environ: str) -> Path:
    archive = tool.parent / "image.tar"
    options = ["--file", tool.parent / "Dockerfile"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        build_archive(str(tool), "localhost/a:1", tool.parent / "src", options, archive, os.environ)
    return archive


def test_an_image_is_built_from_its_folder_and_saved_under_its_name(tool: Path) -> None:
    archive = build_with(tool)
    assert archive.read_text() == "layers\n"
    build, save = (tool.parent / "calls").read_text().splitlines()
    assert build.startswith("build --tag localhost/a:1 --file ")
    assert build.endswith(f" {tool.parent / 'src'}")
    assert save.startswith("save --output ")
    assert " localhost/a:1" in save


def test_a_build_that_fails_says_why_and_saves_nothing(tool: Path) -> None:
    with pytest.raises(BuildFailed, match=r"could not be built: .*no space left"):
        build_with(tool, FAILS_AT="build")
    assert not list(tool.parent.glob("image.*"))


def test_what_could_not_be_saved_whole_is_no_archive(tool: Path) -> None:
    with pytest.raises(CommandFailed, match="no space left"):
        build_with(tool, FAILS_AT="save")
    assert not (tool.parent / "image.tar").exists()
