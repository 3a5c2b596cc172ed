"""Removing models: those that no pool wants any more, and nothing else."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from downloader_process import run_downloader
from model_hub import HubModel, ModelHub, model_hub
from sagepool_downloader.errors import StillHeld, StillMissing
from sagepool_downloader.fetch import Wait, fetch_model, wait_for_models
from sagepool_downloader.folder import ModelFolder
from sagepool_downloader.hub import Hub
from sagepool_downloader.patience import Patience
from sagepool_downloader.progress import Progress
from sagepool_downloader.prune import prune_models

WEIGHTS = b"weights"
SIZE = len(WEIGHTS)


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def waiting(self) -> Wait:
        return Wait(10.0, self.clock, self.sleep)


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    with model_hub({"acme/tiny": HubModel({"model.safetensors": WEIGHTS})}) as served:
        yield served


def fetch(hub: ModelHub, root: Path, name: str, pool: str) -> None:
    time = Time()
    origin = Hub(hub.url, "hf://acme/tiny", "main", "", Patience(attempts=1))
    folder = ModelFolder(root, name, pool)
    try:
        fetch_model("hf://acme/tiny@main", origin, folder, Progress(time.clock), time.waiting)
    finally:
        origin.close()


def prune(root: Path, pool: str, *kept: str) -> list[str]:
    return [one.name for one in prune_models(root, pool, kept, Time().waiting)]


def models(root: Path) -> set[str]:
    return {place.name for place in root.iterdir() if not place.name.startswith(".")}


def half_done(root: Path) -> set[str]:
    return {p.name for p in (root / ".incoming").iterdir() if not p.name.endswith(".lock")}


def test_a_model_that_the_pool_wants_no_longer_is_removed(hub: ModelHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path, "old", "p")
    fetch(hub, tmp_path, "new", "p")
    (removed,) = prune_models(tmp_path, "p", ["new"], Time().waiting)
    assert removed.name == "old"
    assert removed.size_bytes > SIZE
    assert models(tmp_path) == {"new"}
    assert half_done(tmp_path) == set()


def test_a_second_call_finds_nothing_to_do(hub: ModelHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path, "old", "p")
    assert prune(tmp_path, "p") == ["old"]
    assert prune(tmp_path, "p") == []


def test_a_model_that_another_pool_wants_stays_until_that_one_lets_go_of_it(
    hub: ModelHub, tmp_path: Path
) -> None:
    fetch(hub, tmp_path, "shared", "p")
    fetch(hub, tmp_path, "shared", "q")
    assert prune(tmp_path, "p") == []
    assert models(tmp_path) == {"shared"}
    assert prune(tmp_path, "q") == ["shared"]


def test_a_model_of_another_pool_is_not_touched(hub: ModelHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path, "theirs", "q")
    assert prune(tmp_path, "p") == []
    assert models(tmp_path) == {"theirs"}


def test_what_was_not_fetched_for_a_pool_is_never_removed(hub: ModelHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path, "by-hand", "")
    fetch(hub, tmp_path, "by-hand", "p")  # one that wants it too makes it no pool's
    (tmp_path / "put-here").mkdir()
    (tmp_path / "put-here" / "config.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    assert prune(tmp_path, "p") == []
    assert models(tmp_path) == {"by-hand", "put-here", "notes.txt"}


def test_a_link_to_a_model_is_not_followed(hub: ModelHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path / "elsewhere", "old", "p")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "old").symlink_to(tmp_path / "elsewhere" / "old")
    assert prune(tmp_path / "cache", "p") == []
    assert models(tmp_path / "elsewhere") == {"old"}


def test_what_has_been_fetched_of_a_model_goes_too(hub: ModelHub, tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path, "begun", "p")
    folder.begin("c" * 40)
    ModelFolder(tmp_path, "theirs", "q").begin("c" * 40)
    assert prune(tmp_path, "p") == ["begun"]
    assert half_done(tmp_path) == {"theirs"}


def test_a_model_that_is_being_fetched_is_waited_for(hub: ModelHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path, "held", "p")
    fetch(hub, tmp_path, "free", "p")
    time = Time()
    removed: list[str] = []
    with ModelFolder(tmp_path, "held").hold() as is_held:
        assert is_held
        with pytest.raises(StillHeld, match=r"have held held for 10 s: look at the pods"):
            removed.extend(one.name for one in prune_models(tmp_path, "p", [], time.waiting))
    assert removed == ["free"]
    with ExitStack() as stack:
        stack.enter_context(ModelFolder(tmp_path, "held").hold())

        def let_go(_: float) -> None:
            stack.close()

        assert list(prune_models(tmp_path, "p", [], Wait(10.0, time.clock, let_go)))
    assert models(tmp_path) == set()


def test_a_removal_that_was_killed_is_gone_on_with(hub: ModelHub, tmp_path: Path) -> None:
    """At each step: the pool has let go of it; it has been renamed; half of it has gone."""
    fetch(hub, tmp_path, "a", "p")
    (tmp_path / "a" / ".sagepool-pools" / "p").unlink()
    fetch(hub, tmp_path, "b", "p")
    os.replace(tmp_path / "b", tmp_path / ".incoming" / "b.removed")
    (tmp_path / ".incoming" / "b.removed" / "model.safetensors").unlink()
    fetch(hub, tmp_path, "c", "p")
    os.replace(tmp_path / "c", tmp_path / ".incoming" / "c.removed")
    fetch(hub, tmp_path, "c", "p")
    assert prune(tmp_path, "p", "c") == ["a"]
    assert models(tmp_path) == {"c"}
    assert half_done(tmp_path) == set()


def test_an_engine_waits_until_its_own_pool_keeps_the_model(hub: ModelHub, tmp_path: Path) -> None:
    """Else another pool, the last one that did, could remove it under a starting engine."""
    fetch(hub, tmp_path, "shared", "p")
    with pytest.raises(StillMissing):
        wait_for_models([ModelFolder(tmp_path, "shared", "q")], Time().waiting)
    fetch(hub, tmp_path, "shared", "q")
    wait_for_models([ModelFolder(tmp_path, "shared", "q")], Time().waiting)
    assert prune(tmp_path, "p") == []
    assert models(tmp_path) == {"shared"}


def test_the_program_tells_what_it_has_removed(hub: ModelHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path, "old", "p")
    fetch(hub, tmp_path, "new", "p")
    size = next(iter(prune_models(tmp_path, "p", ["new"], Time().waiting))).size_bytes
    fetch(hub, tmp_path, "old", "p")
    said = tmp_path / ".said"
    shared = (f"--root={tmp_path}", "--pool=p", "--keep=new", f"--termination-log={said}")
    assert run_downloader("prune", *shared).returncode == 0
    assert said.read_text() == f"Removed: {size} bytes of old"
    said.unlink()
    assert run_downloader("prune", *shared).returncode == 0
    assert not said.exists()
    assert models(tmp_path) == {"new"}


def test_a_volume_that_cannot_be_written_is_told(hub: ModelHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path / "models", "old", "p")
    said = tmp_path / "said"
    (tmp_path / "models" / ".incoming" / "old.lock").unlink()
    (tmp_path / "models" / ".incoming").rmdir()
    (tmp_path / "models" / ".incoming").write_text("a file")
    shared = (f"--root={tmp_path / 'models'}", f"--termination-log={said}")
    found = run_downloader("prune", "--pool=p", *shared)
    assert found.returncode == 1
    assert said.read_text().startswith("FolderUnusable: ")
    assert models(tmp_path / "models") == {"old"}
