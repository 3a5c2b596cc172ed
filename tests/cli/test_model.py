"""`sage model`: the cache of this user, and what the cluster's pools serve."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from crd_objects import pool_object
from kube_stub import KubeStub, serves
from model_hub import HubModel, model_hub
from sage_command import Ended, Sage

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


def test_before_the_first_download_there_are_no_models(sage: Sage, tmp_path: Path) -> None:
    empty = Sage(sage.home, {"HF_HUB_CACHE": str(tmp_path / "none")})
    assert empty.run("model", "list") == Ended(0, "no models\n", "")
    assert empty.run("model", "list", "-o", "json") == Ended(0, "[]\n", "")
    ended = empty.run("model", "remove", "Qwen/Tiny")
    assert (ended.code, ended.out) == (3, "")
    assert "there is no cache yet" in ended.err


def test_a_cache_that_is_no_folder_is_said(sage: Sage, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    ended = Sage(sage.home, {"HF_HUB_CACHE": str(file)}).run("model", "list")
    assert (ended.code, ended.out) == (2, "")
    assert "set HF_HUB_CACHE to a folder" in ended.err


@pytest.mark.parametrize(
    ("words", "code"), [("o/none", 3), ("o/m --revision=none", 3), ("o/shut", 1)]
)
def test_a_download_says_whether_it_is_missing_or_refused(
    sage: Sage, words: str, code: int
) -> None:
    files = {"config.json": b"{}"}
    models = {"o/m": HubModel(files), "o/shut": HubModel(files, is_gated=True)}
    with model_hub(models) as hub:
        there = Sage(sage.home, {**sage.environment, "HF_ENDPOINT": hub.url})
        ended = there.run("model", "download", *words.split())
    assert (ended.code, ended.out) == (code, "")
    assert "cannot be downloaded: " in ended.err


POOLS = "/apis/sagepool.dev/v1alpha1/namespaces/team-a/inferencepools"


async def test_models_of_the_cluster_s_pools_tell_how_far_they_are(
    sage: Sage, tmp_path: Path
) -> None:
    fetched = {
        "phase": "Downloading",
        "bytes": 3 * 2**30,
        "totalBytes": 4 * 2**30,
        "remainingSeconds": 20,
        "message": "",
    }
    known = {"name": "qwen", "role": "llm", "ready": 0, "desired": 2, "source": "local"}
    rag = pool_object()
    rag["status"] = {"models": [{**known, "cache": fetched}]}
    other = pool_object()
    other["metadata"]["name"] = "other"
    other["status"] = {"models": [{**known, "name": "bge", "ready": 2}]}
    unseen = pool_object()
    unseen["metadata"]["name"] = "unseen"
    there = {f"{POOLS}/rag": rag, f"{POOLS}/unseen": unseen, POOLS: {"items": [other, rag, unseen]}}
    async with KubeStub(serves(there)).running() as stub:
        at = f"--kubeconfig={stub.kubeconfig(tmp_path / 'kubeconfig')}"

        async def listed(*words: str) -> Ended:
            return await asyncio.to_thread(sage.run, "model", "list", *words, at)

        table = await listed("--cluster")
        plain = await listed("--pool=rag", "--output=json")
        none = await listed("--pool=unseen")
        missing = await listed("--pool=gone")
    assert [re.split(r" {2,}", line) for line in table.out.splitlines()] == [
        ["POOL", "MODEL", "ROLE", "READY", "SOURCE", "CACHE", "FETCHED", "MESSAGE"],
        ["other", "bge", "llm", "2/2", "local", "-", "-", "-"],
        ["rag", "qwen", "llm", "0/2", "local", "Downloading", "3.0 GiB of 4.0 GiB, 20s left", "-"],
    ]
    assert json.loads(plain.out) == [{"pool": "rag", **known, "cache": fetched}]
    assert none == Ended(0, "no models\n", "")
    assert (missing.code, missing.out) == (3, "")
    assert "no InferencePool gone in namespace team-a: there are other, rag, unseen" in missing.err
