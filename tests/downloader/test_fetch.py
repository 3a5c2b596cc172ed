"""Fetching a model: whole or not at all, resumed, checked."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from model_hub import HubModel, ModelHub, model_hub
from sagepool_downloader.errors import (
    ChecksumMismatch,
    DiskFull,
    FolderUnusable,
    HubUnreachable,
    ModelNotFound,
    ModelUnusable,
    StillMissing,
    TokenMissing,
    TokenRefused,
)
from sagepool_downloader.fetch import Wait, fetch_model, wait_for_models
from sagepool_downloader.folder import MANIFEST, ModelFolder, explain
from sagepool_downloader.hub import Hub
from sagepool_downloader.patience import Patience
from sagepool_downloader.progress import Progress

NAME = "acme/tiny"
WEIGHTS = "model.safetensors"
CONTENT = {
    "config.json": b'{"model_type": "tiny"}',
    "1_Pooling/config.json": b"{}",
    "empty.txt": b"",
    WEIGHTS: Random(7).randbytes(300_000),
}


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    with model_hub({NAME: HubModel(dict(CONTENT))}) as served:
        yield served


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def fetch(
    hub: ModelHub,
    root: Path,
    *,
    uri: str = f"hf://{NAME}",
    revision: str = "main",
    token: str = "",
    time: Time | None = None,
) -> Progress:
    time = time or Time()
    progress = Progress(time.clock)
    origin = Hub(hub.url, uri, revision, token, Patience(silence_s=5, attempts=3, sleep=time.sleep))
    try:
        fetch_model(
            f"{uri}@{revision}",
            origin,
            ModelFolder(root, "tiny"),
            progress,
            Wait(10.0, time.clock, time.sleep),
        )
    finally:
        origin.close()
    return progress


def read_folder(root: Path) -> dict[str, bytes]:
    folder = root / "tiny"
    return {
        str(place.relative_to(folder)): place.read_bytes()
        for place in folder.rglob("*")
        if place.is_file() and place.name != MANIFEST
    }


def test_a_model_is_there_byte_for_byte(hub: ModelHub, tmp_path: Path) -> None:
    progress = fetch(hub, tmp_path)
    assert read_folder(tmp_path) == CONTENT
    figures = progress.figures()
    size = sum(len(content) for content in CONTENT.values())
    assert (figures.phase, figures.bytes_done, figures.bytes_total) == ("Done", size, size)


def test_its_manifest_names_source_commit_and_digests(hub: ModelHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    manifest = json.loads((tmp_path / "tiny" / MANIFEST).read_text())
    assert (manifest["source"], manifest["commit"]) == (f"hf://{NAME}@main", "c" * 40)
    assert {file["path"] for file in manifest["files"]} == CONTENT.keys()
    assert {len(file["sha256"]) for file in manifest["files"] if "sha256" in file} == {64}


def test_a_model_that_is_there_is_not_asked_for_again(hub: ModelHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    asked = len(hub.asked)
    fetch(hub, tmp_path)
    assert len(hub.asked) == asked


def test_weights_in_another_format_are_left_out_beside_safetensors(
    hub: ModelHub, tmp_path: Path
) -> None:
    hub.models[NAME].files.update(
        {
            "pytorch_model.bin": b"twice",
            "2_Dense/pytorch_model.bin": b"the only weights here",
            "original/consolidated.00.pth": b"twice",
        }
    )
    fetch(hub, tmp_path)
    assert read_folder(tmp_path) == {
        **CONTENT,
        "2_Dense/pytorch_model.bin": b"the only weights here",
    }


def test_a_cut_connection_is_gone_on_with(hub: ModelHub, tmp_path: Path) -> None:
    hub.faults.cut_after[WEIGHTS] = [100_000, 50_000]
    fetch(hub, tmp_path)
    assert read_folder(tmp_path) == CONTENT
    assert hub.ranges_of(WEIGHTS) == ["", "bytes=100000-", "bytes=150000-"]


def test_a_connection_that_is_cut_again_and_again_is_given_up(
    hub: ModelHub, tmp_path: Path
) -> None:
    hub.faults.cut_after[WEIGHTS] = [100_000, 0, 0, 0, 0, 0]
    with pytest.raises(HubUnreachable, match="cannot be reached"):
        fetch(hub, tmp_path)
    assert not (tmp_path / "tiny").exists()
    # The next attempt begins where this one has ended.
    hub.faults.cut_after.clear()
    hub.asked.clear()
    fetch(hub, tmp_path)
    assert read_folder(tmp_path) == CONTENT
    assert hub.ranges_of(WEIGHTS) == ["bytes=100000-"]


def test_a_server_that_knows_no_ranges_is_asked_for_everything_again(
    hub: ModelHub, tmp_path: Path
) -> None:
    hub.faults.cut_after[WEIGHTS] = [100_000]
    hub.faults.refuse_ranges = True
    progress = fetch(hub, tmp_path)
    assert read_folder(tmp_path) == CONTENT
    assert progress.figures().bytes_done == progress.figures().bytes_total


@pytest.mark.parametrize("path", ["config.json", WEIGHTS])
def test_wrong_bytes_are_found_and_not_kept(hub: ModelHub, tmp_path: Path, path: str) -> None:
    hub.faults.replaced[path] = bytes(len(CONTENT[path]))
    with pytest.raises(ChecksumMismatch, match=f"^{path} of hf://{NAME}@main is not"):
        fetch(hub, tmp_path)
    assert not (tmp_path / "tiny").exists()
    hub.faults.replaced.clear()
    fetch(hub, tmp_path)
    assert read_folder(tmp_path) == CONTENT


def test_bytes_that_rot_between_two_attempts_are_found(hub: ModelHub, tmp_path: Path) -> None:
    hub.faults.cut_after[WEIGHTS] = [100_000, 0, 0, 0]
    with pytest.raises(HubUnreachable):
        fetch(hub, tmp_path)
    (part,) = tmp_path.rglob("*.part")
    part.write_bytes(bytes(100_000))
    hub.faults.cut_after.clear()
    with pytest.raises(ChecksumMismatch):
        fetch(hub, tmp_path)
    fetch(hub, tmp_path)
    assert read_folder(tmp_path) == CONTENT


def test_a_branch_that_moves_between_two_attempts_gives_one_commit_whole(
    hub: ModelHub, tmp_path: Path
) -> None:
    hub.faults.cut_after[WEIGHTS] = [100_000, 0, 0, 0]
    with pytest.raises(HubUnreachable):
        fetch(hub, tmp_path)
    hub.faults.cut_after.clear()
    moved = {"config.json": b'{"model_type": "next"}', WEIGHTS: Random(8).randbytes(300_000)}
    hub.models[NAME] = HubModel(moved, commit="d" * 40)
    fetch(hub, tmp_path)
    assert read_folder(tmp_path) == moved


def test_a_busy_hub_is_asked_again(hub: ModelHub, tmp_path: Path) -> None:
    hub.faults.statuses = [503, 429]
    time = Time()
    fetch(hub, tmp_path, time=time)
    assert read_folder(tmp_path) == CONTENT
    assert time.now == 3.0


@pytest.mark.parametrize("status", [500, 429])
def test_a_hub_that_stays_broken_is_named(hub: ModelHub, tmp_path: Path, status: int) -> None:
    hub.faults.statuses = [status] * 3
    with pytest.raises(HubUnreachable, match=f"{hub.url} answers {status}"):
        fetch(hub, tmp_path)


def test_a_gated_model_needs_a_token(hub: ModelHub, tmp_path: Path) -> None:
    hub.models[NAME].token = "right"
    with pytest.raises(TokenMissing, match=r"401.*the model's tokenSecret"):
        fetch(hub, tmp_path)
    with pytest.raises(TokenRefused, match=r"401.*put a valid token into the Secret"):
        fetch(hub, tmp_path, token="wrong")
    fetch(hub, tmp_path, token="right")
    assert read_folder(tmp_path) == CONTENT


def test_terms_that_are_not_accepted_are_named(hub: ModelHub, tmp_path: Path) -> None:
    hub.models[NAME].is_gated = True
    with pytest.raises(TokenRefused, match=r"403.*accept the model's terms"):
        fetch(hub, tmp_path, token="right")


def test_a_model_that_does_not_exist_is_named(hub: ModelHub, tmp_path: Path) -> None:
    with pytest.raises(TokenMissing, match=r"check the model's uri"):
        fetch(hub, tmp_path, uri="hf://acme/none")
    with pytest.raises(ModelNotFound, match=r"no acme/none at main: check the model's uri"):
        fetch(hub, tmp_path, uri="hf://acme/none", token="any")


def test_a_revision_that_does_not_exist_is_named(hub: ModelHub, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no acme/tiny at v9: check the model's revision"):
        fetch(hub, tmp_path, revision="v9")
    assert len(hub.asked) == 1  # it would not come by asking again


@pytest.mark.parametrize("name", ["acme/a..b", "acme/a--b"])
def test_a_name_that_no_model_can_have_is_named(hub: ModelHub, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFound, match=r"check the model's uri"):
        fetch(hub, tmp_path, uri=f"hf://{name}")


def test_an_answer_that_is_no_listing_is_refused(hub: ModelHub, tmp_path: Path) -> None:
    hub.faults.listing = b"<html>please log in</html>"
    with pytest.raises(ModelUnusable, match="no proxy answers in its place"):
        fetch(hub, tmp_path)


def test_a_listing_that_leads_out_of_the_folder_is_refused(hub: ModelHub, tmp_path: Path) -> None:
    hub.models[NAME].files["../../evil"] = b"x"
    with pytest.raises(ModelUnusable, match="outside"):
        fetch(hub, tmp_path)
    assert not (tmp_path.parent / "evil").exists()


def test_a_volume_that_is_too_small_is_told_before_a_byte_is_fetched(
    hub: ModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFull, match=r"0\.0 GiB left: enlarge it"):
        fetch(hub, tmp_path)
    assert hub.ranges_of(WEIGHTS) == []


def test_a_volume_that_runs_full_is_named(tmp_path: Path) -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(DiskFull, match="enlarge it"),
        explain(tmp_path),
    ):
        full.write(b"x")


def test_a_cache_that_is_no_folder_is_named(hub: ModelHub, tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("")
    with pytest.raises(FolderUnusable, match=f"{root} cannot be written by user"):
        fetch(hub, root)


def test_only_one_process_fetches_and_the_other_waits_for_it(hub: ModelHub, tmp_path: Path) -> None:
    with ModelFolder(tmp_path, "tiny").hold() as is_ours:
        assert is_ours
        with pytest.raises(StillMissing, match="another process"):
            fetch(hub, tmp_path)
    assert hub.asked == []
    fetch(hub, tmp_path)
    assert read_folder(tmp_path) == CONTENT


def test_who_waits_for_a_model_goes_on_when_it_is_there(hub: ModelHub, tmp_path: Path) -> None:
    time, folder = Time(), ModelFolder(tmp_path, "tiny")
    with pytest.raises(StillMissing, match="for 5 s: see the pool's condition ModelsCached"):
        wait_for_models([folder], Wait(5.0, time.clock, time.sleep))
    assert time.now == 5.0
    fetch(hub, tmp_path)
    wait_for_models([folder], Wait(5.0, time.clock, time.sleep))
    assert time.now == 5.0


def test_who_waits_for_two_models_goes_on_when_both_are_there(
    hub: ModelHub, tmp_path: Path
) -> None:
    time = Time()
    folders = [ModelFolder(tmp_path, "tiny"), ModelFolder(tmp_path, "other")]
    fetch(hub, tmp_path)
    with pytest.raises(StillMissing, match="/other has not been there for 5 s"):
        wait_for_models(folders, Wait(5.0, time.clock, time.sleep))
    (tmp_path / "tiny").rename(tmp_path / "other")
    with pytest.raises(StillMissing, match="/tiny has not been there for 5 s"):
        wait_for_models(folders, Wait(5.0, time.clock, time.sleep))
    fetch(hub, tmp_path)
    time.now = 0.0
    wait_for_models(folders, Wait(5.0, time.clock, time.sleep))
    assert time.now == 0.0
