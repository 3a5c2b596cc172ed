"""`sage model`: the cache of this user."""

import json
from pathlib import Path

import pytest

from sage_command import Sage

COMMIT = "0" * 40


@pytest.fixture
def sage(tmp_path: Path) -> Sage:
    """The command with two models in the cache and no network."""
    for name, size in (("Qwen--Tiny", 10), ("BAAI--bge", 3000)):
        model = tmp_path / "hub" / f"models--{name}"
        (model / "blobs").mkdir(parents=True)
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(COMMIT)
        (model / "blobs" / "b").write_text("x" * size)
        snapshot = model / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").symlink_to("../../blobs/b")
    environment = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    return Sage(tmp_path / "home", environment)


def test_models_are_listed_the_largest_first(sage: Sage) -> None:
    lines = sage.run("model", "list").out.splitlines()
    assert lines[0].split() == ["MODEL", "SIZE", "REVISIONS", "USED"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["BAAI/bge", "3", "KiB", "main"],
        ["Qwen/Tiny", "10", "B", "main"],
    ]
    assert json.loads(sage.run("model", "list", "-o", "json").out)[0]["bytes"] == 3000


def test_a_model_is_removed_and_another_with_the_same_commit_stays(sage: Sage) -> None:
    ended = sage.run("model", "remove", "Qwen/Tiny")
    assert (ended.code, ended.out) == (0, "Qwen/Tiny is removed: 10 B are free again\n")
    assert [m["name"] for m in json.loads(sage.run("model", "list", "-o", "json").out)] == [
        "BAAI/bge"
    ]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("model remove Qwen/Other", 3, "no model Qwen/Other is in the cache: there are BAAI/bge"),
        ("model remove other", 2, "'other' is no model: write OWNER/NAME"),
        ("model download o/m", 1, "o/m cannot be downloaded: "),
    ],
)
def test_what_cannot_be_is_a_sentence(sage: Sage, words: str, code: int, says: str) -> None:
    ended = sage.run(*words.split(), timeout_s=55)
    assert (ended.code, ended.out) == (code, "")
    assert says in ended.err
    assert ended.err.splitlines()[-1].startswith("sage: ")


def test_no_cache_names_the_way_to_one(sage: Sage, tmp_path: Path) -> None:
    empty = Sage(sage.home, {"HF_HUB_CACHE": str(tmp_path / "none")})
    ended = empty.run("model", "list")
    assert ended.code == 3
    assert "`sage model download` makes it" in ended.err
