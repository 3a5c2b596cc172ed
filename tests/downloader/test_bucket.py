"""Fetching a model from a bucket: real bytes over the S3 protocol, resumed, checked."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from downloader_process import run_downloader
from s3_server import KEY_ID, SECRET_KEY, S3Server, s3_server
from sagepool_downloader.bucket import Access, Bucket, read_access
from sagepool_downloader.errors import (
    AccessDenied,
    ChecksumMismatch,
    ModelNotFound,
    ModelUnusable,
    StorageUnreachable,
)
from sagepool_downloader.fetch import Wait, fetch_model
from sagepool_downloader.folder import MANIFEST, ModelFolder
from sagepool_downloader.model import RemoteFile, begin_hash
from sagepool_downloader.origin import Intake
from sagepool_downloader.patience import Patience
from sagepool_downloader.progress import Progress

WEIGHTS = "model.safetensors"
CONTENT = {
    "config.json": b'{"model_type": "tiny"}',
    "1_Pooling/config.json": b"{}",
    "empty.txt": b"",
    WEIGHTS: Random(7).randbytes(300_000),
}
PARTS = [Random(n).randbytes(size) for n, size in enumerate((5 * 2**20, 5 * 2**20, 1000))]


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(scope="module")
def storage() -> Iterator[S3Server]:
    with s3_server("models") as served:
        yield served


@pytest.fixture
def server(storage: S3Server) -> Iterator[S3Server]:
    for found in storage.client.list_objects_v2(Bucket="models").get("Contents", ()):
        storage.client.delete_object(Bucket="models", Key=found["Key"])
    storage.put("models", {f"acme/tiny/{path}": content for path, content in CONTENT.items()})
    storage.asked.clear()
    yield storage
    storage.statuses.clear()
    storage.cut_after.clear()
    storage.replaced.clear()


def access(server: S3Server) -> Access:
    return Access(KEY_ID, SECRET_KEY, endpoint=server.url)


def fetch(
    server: S3Server,
    root: Path,
    uri: str = "s3://models/acme/tiny",
    opened_by: Access | None = None,
) -> Progress:
    time = Time()
    progress = Progress(time.clock)
    patience = Patience(silence_s=5, attempts=3, sleep=time.sleep)
    bucket = Bucket(uri, opened_by or access(server), patience)
    try:
        waiting = Wait(10.0, time.clock, time.sleep)
        fetch_model(uri, bucket, ModelFolder(root, "tiny"), progress, waiting, workers=1)
    finally:
        bucket.close()
    return progress


def read_folder(root: Path) -> dict[str, bytes]:
    folder = root / "tiny"
    return {
        str(place.relative_to(folder)): place.read_bytes()
        for place in folder.rglob("*")
        if place.is_file() and place.name != MANIFEST
    }


def test_a_folder_of_a_bucket_is_there_byte_for_byte(server: S3Server, tmp_path: Path) -> None:
    server.put("models", {"acme/tiny-2/other.json": b"{}", "acme/tiny/empty/": b""})
    progress = fetch(server, tmp_path)
    assert read_folder(tmp_path) == CONTENT
    size = sum(len(content) for content in CONTENT.values())
    figures = progress.figures()
    assert (figures.phase, figures.bytes_done, figures.bytes_total) == ("Done", size, size)
    manifest = json.loads((tmp_path / "tiny" / MANIFEST).read_text())
    assert manifest["source"] == "s3://models/acme/tiny"
    assert all(len(file["md5"]) == 32 for file in manifest["files"])


def test_a_bucket_may_hold_one_model_only(server: S3Server, tmp_path: Path) -> None:
    fetch(server, tmp_path, "s3://models")
    assert read_folder(tmp_path) == {f"acme/tiny/{path}": body for path, body in CONTENT.items()}


def test_what_was_uploaded_in_parts_is_checked_too(server: S3Server, tmp_path: Path) -> None:
    server.put_in_parts("models", f"acme/large/{WEIGHTS}", PARTS)
    fetch(server, tmp_path, "s3://models/acme/large")
    assert read_folder(tmp_path) == {WEIGHTS: b"".join(PARTS)}
    (file,) = json.loads((tmp_path / "tiny" / MANIFEST).read_text())["files"]
    assert file["md5"].endswith("-3")


@pytest.mark.parametrize("folder", ["tiny", "large"])
def test_bytes_that_are_not_those_of_the_bucket_are_not_kept(
    server: S3Server, tmp_path: Path, folder: str
) -> None:
    server.put_in_parts("models", f"acme/large/{WEIGHTS}", PARTS)
    right = b"".join(PARTS) if folder == "large" else CONTENT[WEIGHTS]
    server.replaced[WEIGHTS] = right[:-1] + bytes([right[-1] ^ 1])
    with pytest.raises(ChecksumMismatch, match=rf"model.safetensors of s3://models/acme/{folder}"):
        fetch(server, tmp_path, f"s3://models/acme/{folder}")
    assert not (tmp_path / "tiny").exists()
    server.replaced.clear()
    fetch(server, tmp_path, f"s3://models/acme/{folder}")
    assert read_folder(tmp_path)[WEIGHTS] == right


def test_of_an_encrypted_object_only_the_size_is_known(server: S3Server, tmp_path: Path) -> None:
    sealed = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/own"}
    server.put("models", {"acme/sealed/config.json": b"{}"}, **sealed)
    fetch(server, tmp_path, "s3://models/acme/sealed")
    (file,) = json.loads((tmp_path / "tiny" / MANIFEST).read_text())["files"]
    assert "etag" in file
    assert file["size"] == 2


def test_a_connection_that_breaks_is_gone_on_with(server: S3Server, tmp_path: Path) -> None:
    server.cut_after = [200_000]
    progress = fetch(server, tmp_path)
    assert read_folder(tmp_path) == CONTENT
    first, second = server.ranges_of(WEIGHTS)
    assert first == ""
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 200_000
    assert progress.figures().bytes_done == sum(len(content) for content in CONTENT.values())


def test_a_download_that_is_killed_is_gone_on_with(server: S3Server, tmp_path: Path) -> None:
    server.cut_after = [100_000, 0, 0]
    with pytest.raises(StorageUnreachable):
        fetch(server, tmp_path)
    part = next(tmp_path.rglob(f"{WEIGHTS}.part"))
    kept = part.stat().st_size
    assert 0 < kept <= 100_000
    server.asked.clear()
    server.cut_after = []
    fetch(server, tmp_path)
    assert server.ranges_of(WEIGHTS) == [f"bytes={kept}-"]
    assert read_folder(tmp_path) == CONTENT


def test_a_file_that_changes_meanwhile_is_never_mixed(server: S3Server, tmp_path: Path) -> None:
    server.cut_after = [100_000, 0, 0]
    with pytest.raises(StorageUnreachable):
        fetch(server, tmp_path)
    server.cut_after = []
    new = Random(8).randbytes(300_000)
    server.put("models", {f"acme/tiny/{WEIGHTS}": new})
    fetch(server, tmp_path)
    assert read_folder(tmp_path)[WEIGHTS] == new


def test_a_file_that_changes_after_the_listing_is_told(server: S3Server, tmp_path: Path) -> None:
    bucket = Bucket("s3://models/acme/tiny", access(server), Patience(attempts=1))
    listing = bucket.list_files()
    server.put("models", {f"acme/tiny/{WEIGHTS}": b"another"})
    (file,) = [one for one in listing.files if one.path == WEIGHTS]
    folder = ModelFolder(tmp_path, "tiny")
    folder.begin(listing.commit)
    intake = Intake(folder.open_part(file), Progress(Time().clock), lambda: False)
    with pytest.raises(ModelUnusable, match="has changed while it was fetched"):
        bucket.send(listing, file, intake)
    bucket.close()


def test_the_storage_is_asked_again(server: S3Server, tmp_path: Path) -> None:
    server.statuses = [503, 500]
    fetch(server, tmp_path)
    assert read_folder(tmp_path) == CONTENT


class TestTold:
    def test_no_such_bucket(self, server: S3Server, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFound, match=r"has no bucket nowhere: check the model's uri"):
            fetch(server, tmp_path, "s3://nowhere/acme/tiny")

    def test_no_such_folder(self, server: S3Server, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFound, match="s3://models/acme/tin has no files"):
            fetch(server, tmp_path, "s3://models/acme/tin")

    def test_a_file_outside_of_the_folder(self, server: S3Server, tmp_path: Path) -> None:
        server.put("models", {"acme/out//etc/x": b""})
        with pytest.raises(ModelUnusable, match="outside of the model's folder"):
            fetch(server, tmp_path, "s3://models/acme/out")

    def test_access_denied(self, server: S3Server, tmp_path: Path) -> None:
        server.statuses = [403]
        with pytest.raises(
            AccessDenied, match=r"403: allow the key of the model's credentialsSecret"
        ):
            fetch(server, tmp_path)
        server.statuses = [403]
        with pytest.raises(AccessDenied, match="not open to everybody: name a Secret"):
            fetch(server, tmp_path, opened_by=Access(endpoint=server.url))

    def test_a_storage_that_does_not_answer(self, server: S3Server, tmp_path: Path) -> None:
        nobody = Access(KEY_ID, SECRET_KEY, endpoint="http://127.0.0.1:9")
        with pytest.raises(StorageUnreachable, match=r"http://127\.0\.0\.1:9 cannot be reached"):
            fetch(server, tmp_path, opened_by=nobody)
        server.statuses = [503] * 3
        with pytest.raises(StorageUnreachable, match="answers 503: it is asked again"):
            fetch(server, tmp_path)


def test_access_is_read_from_the_variables_of_aws() -> None:
    said = {
        "AWS_ACCESS_KEY_ID": "id\n",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://minio:9000",
        "HOME": "/",
    }
    expected = Access("id", "secret", "token", "eu-west-1", "http://minio:9000")
    assert read_access(said) == expected
    assert read_access({}) == Access()


def test_parts_of_several_sizes_are_no_digest_that_could_be_checked(
    server: S3Server, tmp_path: Path
) -> None:
    parts = [PARTS[0], PARTS[1] * 2]
    server.put_in_parts("models", f"acme/uneven/{WEIGHTS}", parts)
    fetch(server, tmp_path, "s3://models/acme/uneven")
    assert read_folder(tmp_path) == {WEIGHTS: b"".join(parts)}
    (file,) = json.loads((tmp_path / "tiny" / MANIFEST).read_text())["files"]
    assert file["etag"].endswith("-2")


@pytest.mark.parametrize("size", [1, 9, 10, 11, 20, 25])
@pytest.mark.parametrize("step", [1, 7, 10, 100])
def test_the_digest_of_parts_is_that_of_their_digests(size: int, step: int) -> None:
    content = Random(size).randbytes(size)
    parts = [hashlib.md5(content[at : at + 10]).digest() for at in range(0, size, 10)]
    expected = f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"
    running = begin_hash(RemoteFile("a", size, expected, "md5", 10))
    for at in range(0, size, step):
        running.update(content[at : at + step])
    assert running.hexdigest() == expected


def test_the_program_fetches_with_the_keys_of_its_environment(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    said = tmp_path / "said"
    place = (f"--root={tmp_path}", "--folder=tiny", f"--termination-log={said}")
    serving = ("--host=127.0.0.1", "--port=0", "--pool=p")
    ended = run_downloader("fetch", "--uri=s3://models/acme/tiny", *place, *serving)
    assert ended.returncode == 0, ended.stderr
    assert said.read_text() == f"Done: {sum(len(body) for body in CONTENT.values())} bytes"
    assert CONTENT.items() <= read_folder(tmp_path).items()
    ended = run_downloader(
        "fetch", "--uri=s3://models/acme/none", *place[::2], "--folder=none", *serving
    )
    assert ended.returncode == 1
    assert said.read_text().startswith("ModelNotFound: s3://models/acme/none has no files")
