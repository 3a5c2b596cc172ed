"""A home that cannot be written: said at the start; a pool that runs goes on."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from sage_command import Sage, free_port, kill, part_of, pids_of, write_pool

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 512):
                pass
        except OSError:
            return path
    raise AssertionError("the disk has no end")


def test_a_start_on_a_full_disk_is_one_sentence(disk: Path, tmp_path: Path) -> None:
    sage = Sage(disk / "home")
    pool_file = write_pool(tmp_path / "p")
    sage.home.mkdir()
    fill(disk)
    ended = sage.run("inference", "start", "-b", f"-f{pool_file}", f"-p{free_port()}")
    assert ended.code == 1
    assert "no space left on device" in ended.err
    assert ended.err.count("sage: ") == 1
    assert "Traceback" not in ended.err
    assert sage.run("inference", "status").code == 3


def test_a_start_in_a_read_only_home_names_the_way_out(disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    pool_file = write_pool(tmp_path / "p")
    ended = Sage(disk / "home").run("inference", "start", f"-f{pool_file}", f"-p{free_port()}")
    assert ended.code == 1
    assert ended.err.startswith("sage: ")
    assert "read-only file system" in ended.err
    assert "set SAGE_HOME to another folder" in ended.err


def test_a_pool_whose_disk_fills_up_goes_on_and_can_be_stopped(disk: Path, tmp_path: Path) -> None:
    sage = Sage(disk / "home")
    with sage.pool(write_pool(tmp_path / "p")) as port:
        pids = pids_of(sage.status())
        filler = fill(disk)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        with client:
            answer = client.embeddings.create(model="embed-model", input="text")
            assert answer.data[0].embedding
        kill(pids["chat-0"])
        filler.unlink()
        sage.until(lambda s: part_of(s, "chat-0")["pid"] not in (None, pids["chat-0"]))
        sage.until(lambda s: s["outcome"] == "ready")
        fill(disk)
        ended = sage.run("inference", "stop")
        assert ended.code == 0, ended
    assert sage.run("inference", "status").code == 3
