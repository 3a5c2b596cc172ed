"""`sagepool-downloader` as a process: killed and started again, asked, ended."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from downloader_process import downloader, run_downloader
from model_hub import HubModel, ModelHub, model_hub
from sagepool_downloader.folder import MANIFEST

WEIGHTS = "model.safetensors"
SIZE = 2_000_000
HELD = 800_000
CONTENT = {"config.json": b"{}", WEIGHTS: Random(7).randbytes(SIZE)}
_LIMIT_S = 20.0


@pytest.fixture
def hub() -> Iterator[ModelHub]:
    with model_hub({"acme/tiny": HubModel(dict(CONTENT))}) as served:
        yield served


def until(ask: Callable[[], Any], what: str) -> Any:
    limit = time.monotonic() + _LIMIT_S
    while time.monotonic() < limit:
        if answer := ask():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not after {_LIMIT_S:.0f} s: {what}")


def part_size(root: Path) -> int:
    return sum(part.stat().st_size for part in root.rglob(f"{WEIGHTS}.part"))


def test_a_download_that_is_killed_is_gone_on_with(hub: ModelHub, tmp_path: Path) -> None:
    hub.faults.hold_after[WEIGHTS] = HELD
    with downloader(hub.url, tmp_path) as first:
        until(lambda: part_size(tmp_path) > HELD // 2, "half of what is sent is on the disk")
        first.kill()
    kept = part_size(tmp_path)
    assert not (tmp_path / "tiny").exists()
    hub.faults.released.set()
    hub.faults.hold_after.clear()
    with downloader(hub.url, tmp_path) as second:
        assert second.wait() == 0
    assert (tmp_path / "tiny" / WEIGHTS).read_bytes() == CONTENT[WEIGHTS]
    assert hub.ranges_of(WEIGHTS) == ["", f"bytes={kept}-"]


def test_it_tells_its_progress(hub: ModelHub, tmp_path: Path) -> None:
    hub.faults.hold_after[WEIGHTS] = HELD
    with downloader(hub.url, tmp_path) as running:

        def ask() -> dict[str, Any] | None:
            told: dict[str, Any] = httpx.get(f"{running.url}/progress").json()
            return told if told["bytes"] > HELD // 2 else None

        told = until(ask, "it tells of what it has fetched")
        assert told["phase"] == "Downloading"
        assert told["totalBytes"] == SIZE + 2
        assert told.keys() == {"phase", "bytes", "totalBytes", "bytesPerSecond", "remainingSeconds"}
        assert httpx.get(f"{running.url}/health").status_code == 200
        assert httpx.get(f"{running.url}/other").status_code == 404
        hub.faults.released.set()
        assert running.wait() == 0


def test_it_ends_at_once_when_it_is_told_to(hub: ModelHub, tmp_path: Path) -> None:
    hub.faults.hold_after[WEIGHTS] = HELD
    with downloader(hub.url, tmp_path) as running:
        until(lambda: part_size(tmp_path), "it fetches")
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 128 + signal.SIGTERM


def test_why_it_failed_is_left_for_the_kubelet(hub: ModelHub, tmp_path: Path) -> None:
    hub.models["acme/tiny"].token = "right"
    log = tmp_path / "termination-log"
    arguments = (
        "fetch",
        "--uri=hf://acme/tiny",
        f"--hub={hub.url}",
        f"--root={tmp_path}",
        "--folder=tiny",
        "--host=127.0.0.1",
        "--port=0",
        f"--termination-log={log}",
    )
    ended = run_downloader(*arguments)
    assert ended.returncode == 1
    assert log.read_text().startswith("TokenMissing: the hub answers 401")
    assert log.read_text() in ended.stderr
    # As a Secret gives it that was made from a file.
    assert run_downloader(*arguments, token="right\n").returncode == 0
    assert (tmp_path / "tiny" / MANIFEST).is_file()
    assert log.read_text() == f"Done: {SIZE + 2} bytes"


def test_a_wait_ends_when_the_model_is_there_or_its_limit_is_reached(
    hub: ModelHub, tmp_path: Path
) -> None:
    log = tmp_path / "termination-log"
    wait = ("wait", f"--root={tmp_path}", "--folder=tiny", f"--termination-log={log}")
    assert run_downloader(*wait, "--wait-seconds=0.1").returncode == 1
    assert log.read_text().startswith("StillMissing: ")
    with downloader(hub.url, tmp_path) as running:
        assert running.wait() == 0
    assert run_downloader(*wait).returncode == 0
    assert run_downloader(*wait, "--folder=second", "--wait-seconds=0.1").returncode == 1
    assert "/second has not been there" in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fetch", "--root=/x", "--folder=a", "--uri=gs://b/c"), "write hf://OWNER/NAME"),
        (("fetch", "--root=/x", "--folder=../a", "--uri=hf://b/c"), "write one name"),
        (("fetch", "--root=/x", "--folder=a", "--uri=hf://b/c", "--port=x"), "0 to 65535"),
        (("wait", "--root=/x", "--folder=a", "--wait-seconds=0"), "above 0"),
    ],
)
def test_wrong_use_is_answered_with_a_sentence(arguments: tuple[str, ...], said: str) -> None:
    ended = run_downloader(*arguments)
    assert ended.returncode == 2
    assert said in ended.stderr
