"""Where keys are read from: a Secret's volume as Kubernetes writes it, a directory, a file."""

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sagepool_router.auth.errors import Unauthorized
from sagepool_router.auth.files import read_directory
from sagepool_router.auth.source import KeySource

ALICE = "sk-0123456789abcdef"
BOB = "sk-fedcba9876543210"
NOBODY: list[str] = []


class Volume:
    """Writes versions of a Secret as the kubelet does: all at once by one rename."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0

    def write(self, **contents: str) -> None:
        self._count += 1
        version = self.path / f"..2026_01_01.{self._count}"
        version.mkdir(parents=True)
        for name, content in contents.items():
            (version / name).write_text(content)
        fresh, data = self.path / "..data_tmp", self.path / "..data"
        old = data.resolve() if data.exists() else None
        fresh.symlink_to(version.name)
        fresh.rename(data)
        for name in contents:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        for link in self.path.iterdir():
            if not link.name.startswith(".") and link.name not in contents:
                link.unlink()
        if old is not None:
            shutil.rmtree(old)


class Turns:
    """A sleep that ends when the test says so."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._asleep = asyncio.Event()
        self._wake = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._asleep.set()
        await self._wake.wait()
        self._wake.clear()

    async def until_asleep(self) -> None:
        await self._asleep.wait()

    async def next(self) -> None:
        self._asleep.clear()
        self._wake.set()
        await self._asleep.wait()


def names(source: KeySource) -> list[str]:
    return [key.name for key in source.keyring.keys]


def opens(source: KeySource, secret: str) -> bool:
    try:
        source.keyring.find(f"Bearer {secret}".encode())
    except Unauthorized:
        return False
    return True


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    told = "\n".join(str(vars(record)) for record in caplog.records)
    assert ALICE not in told
    assert BOB not in told
    caplog.clear()
    return found


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="sagepool_router.auth")


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "api-keys")


async def test_nobody_gets_in_before_keys_were_read(volume: Volume) -> None:
    volume.write(alice=ALICE)
    assert names(KeySource(volume.path)) == NOBODY


async def test_a_new_version_of_a_secret_is_taken_whole(volume: Volume) -> None:
    volume.write(alice=ALICE, bob=BOB)
    source = KeySource(volume.path)
    await source.refresh()
    assert names(source) == ["alice", "bob"]
    volume.write(alice=f"keys: [{ALICE}, sk-aaaaaaaaaaaaaaaa]")
    await source.refresh()
    assert names(source) == ["alice"]
    assert (opens(source, ALICE), opens(source, "sk-aaaaaaaaaaaaaaaa")) == (True, True)
    assert not opens(source, BOB)


async def test_what_has_not_changed_is_not_read_again(
    volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    volume.write(alice=ALICE)
    source = KeySource(volume.path)
    await source.refresh()
    keyring = source.keyring
    await source.refresh()
    assert source.keyring is keyring
    assert messages(caplog) == ["API keys read"]


async def test_it_looks_again_after_each_pause_until_it_is_cancelled(volume: Volume) -> None:
    volume.write(alice=ALICE)
    turns = Turns()
    source = KeySource(volume.path, interval_s=3, sleep=turns.sleep)
    task = asyncio.create_task(source.run())
    await turns.until_asleep()
    assert names(source) == ["alice"]
    volume.write(bob=BOB)
    await turns.next()
    assert names(source) == ["bob"]
    assert turns.slept == [3, 3]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_usage_and_limits_go_on_over_a_reload(volume: Volume) -> None:
    volume.write(alice=f"{{key: {ALICE}, requestsPerMinute: 10}}")
    source = KeySource(volume.path, share=0.5, clock=lambda: 7.0)
    await source.refresh()
    alice = source.keyring.find(f"Bearer {ALICE}".encode())
    alice.admit("m", 1, 7.0)
    volume.write(alice=f"{{key: {BOB}, requestsPerMinute: 20}}")
    await source.refresh()
    assert source.keyring.find(f"Bearer {BOB}".encode()) is alice
    assert b"x-ratelimit-remaining-requests: 9\r\n" in alice.answer_fields(7.0)
    source.keep_to(0.25)
    assert b"x-ratelimit-remaining-requests: 4\r\n" in alice.answer_fields(7.0)
    volume.write(alice=f"{{key: {BOB}, requestsPerMinute: 40}}")
    await source.refresh()
    assert b"x-ratelimit-limit-requests: 10\r\n" in alice.answer_fields(7.0)


async def test_a_plain_directory_works_too_and_dots_and_folders_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "alice").write_text(ALICE + "\n")
    (tmp_path / ".alice.swp").write_text(BOB)
    (tmp_path / "lost+found").mkdir()
    os.mkfifo(tmp_path / "pipe")
    source = KeySource(tmp_path)
    await source.refresh()
    assert names(source) == ["alice"]
    (tmp_path / "bob").write_text(BOB)
    await source.refresh()
    assert names(source) == ["alice", "bob"]
    assert messages(caplog) == ["API keys read", "API keys read"]


async def test_one_file_works_too(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(f"alice: {ALICE}\n")
    source = KeySource(path)
    await source.refresh()
    assert names(source) == ["alice"]
    path.write_text(f"alice: {ALICE}\nbob: {{key: {BOB}, priority: low}}\n")
    await source.refresh()
    assert names(source) == ["alice", "bob"]


async def test_an_entry_that_is_refused_is_named_once_and_the_others_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "alice").write_text(ALICE)
    (tmp_path / "bob").write_text(f"{{key: {BOB}, limit: 3}}")
    (tmp_path / "carol").write_text(ALICE)
    (tmp_path / "dave").symlink_to("nowhere")
    (tmp_path / "huge").write_text("x" * 100_000)
    source = KeySource(tmp_path)
    await source.refresh()
    refused = {vars(r)["entry"]: vars(r)["reason"] for r in caplog.records if "refused" in r.msg}
    assert list(refused) == ["bob", "carol", "huge", "dave"]
    assert refused["dave"] == "it cannot be read: no such file or directory"
    assert names(source) == ["alice"]
    messages(caplog)
    (tmp_path / "eve").write_text("sk-eeeeeeeeeeeeeeee")
    await source.refresh()
    assert messages(caplog) == ["API keys read"]
    (tmp_path / "bob").write_text("short")
    await source.refresh()
    assert messages(caplog) == ["API key refused", "API keys read"]


async def test_an_empty_secret_lets_nobody_in_and_says_so(
    volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    volume.write(alice=ALICE)
    source = KeySource(volume.path)
    await source.refresh()
    messages(caplog)
    volume.write()
    await source.refresh()
    assert not opens(source, ALICE)
    assert messages(caplog) == ["there is no usable API key: nobody gets in"]


def _remove(path: Path) -> None:
    path.unlink()


def _break(path: Path) -> None:
    path.write_text(f"alice: {{key: {ALICE}")


def _replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("harm", [_remove, _break, _replace_by_pipe])
async def test_what_cannot_be_read_any_more_keeps_the_last_keys(
    harm: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(f"alice: {ALICE}\n")
    source = KeySource(path)
    await source.refresh()
    messages(caplog)
    harm(path)
    await source.refresh()
    await source.refresh()
    assert opens(source, ALICE)
    assert source.error
    assert messages(caplog) == ["API keys cannot be read: the last ones stay"]
    path.unlink(missing_ok=True)
    path.write_text(f"bob: {BOB}\n")
    await source.refresh()
    assert (names(source), source.error) == (["bob"], "")


async def test_what_never_could_be_read_lets_nobody_in_until_it_can(
    volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    source = KeySource(volume.path)
    await source.refresh()
    await source.refresh()
    assert names(source) == NOBODY
    assert messages(caplog) == ["API keys cannot be read: nobody gets in"]
    volume.write(alice=ALICE)
    await source.refresh()
    assert opens(source, ALICE)


async def test_a_version_that_goes_while_it_is_read_is_never_taken_for_an_empty_one(
    volume: Volume,
) -> None:
    volume.write(a=ALICE, b=BOB)

    def swap() -> None:
        for _ in range(300):
            volume.write(a=ALICE, b=BOB)

    writing = asyncio.create_task(asyncio.to_thread(swap))
    seen = set()
    while not writing.done():
        try:
            found = await asyncio.to_thread(read_directory, volume.path, 1000)
        except OSError:
            continue
        seen.add((tuple(found.contents), tuple(found.unreadable)))
    await writing
    assert seen == {(("a", "b"), ())}
