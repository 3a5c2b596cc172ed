"""The folder of a pool, its lock, and its record."""

import os
from pathlib import Path

import pytest

from sagepool.laptop.errors import CommandError, WrongUse
from sagepool.laptop.home import Home
from sagepool.laptop.logfile import LogFile
from sagepool.laptop.logs import log_files, read
from sagepool.laptop.process import ProcessId
from sagepool.laptop.record import Record, read_record, write_record


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_the_home_is_sage_home_or_below_the_user_s() -> None:
    assert Home.of({"HOME": "/h"}).folder == Path("/h/.sage")
    assert Home.of({"HOME": "/h", "SAGE_HOME": "/s"}).folder == Path("/s")


@pytest.mark.parametrize("name", ["", ".", "..", "../engines/8001", "/etc", "a/b"])
def test_a_path_is_no_name_of_a_pool(home: Home, name: str) -> None:
    with pytest.raises(WrongUse, match="is no name of a pool"):
        home.place("pool", name)


def test_a_home_is_named_from_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Home.of({"SAGE_HOME": "here"}).folder == tmp_path / "here"


def test_folders_are_for_the_user_alone(home: Home) -> None:
    place = home.place("pool", "rag")
    place.make()
    assert place.folder.stat().st_mode & 0o077 == 0


def test_a_lock_is_held_once_and_ends_with_its_descriptor(home: Home) -> None:
    place = home.place("pool", "rag")
    assert not place.is_taken()
    place.make()
    held = place.lock()
    assert held is not None
    assert place.lock() is None
    assert place.is_taken()
    os.close(held)
    assert not place.is_taken()


def test_places_are_listed_by_kind_and_name(home: Home) -> None:
    for kind, name in (("pool", "b"), ("pool", "a"), ("engine", "8001")):
        home.place(kind, name).make()
    assert [place.name for place in home.places("pool")] == ["a", "b"]
    assert [place.name for place in home.places("engine")] == ["8001"]


def test_a_home_that_cannot_be_written_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = Home(tmp_path / "file" / "home").place("pool", "rag")
    with pytest.raises(CommandError, match=r"not a directory.*set SAGE_HOME to another folder"):
        place.make()


def test_a_record_is_read_as_it_was_written(home: Home) -> None:
    place = home.place("pool", "rag")
    place.make()
    me = ProcessId(1, 2, "boot")
    record = Record("rag", me, "pool.yaml", "http://a", "http://b", "ready", 1.0)
    write_record(place, record)
    assert read_record(place) == record
    assert place.record.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": 1}'])
def test_what_is_no_record_is_none(home: Home, content: str) -> None:
    place = home.place("pool", "rag")
    place.make()
    assert read_record(place) is None
    place.record.write_text(content)
    assert read_record(place) is None


def test_a_log_is_bounded_and_keeps_the_one_before(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", largest_bytes=100)
    for number in range(50):
        log.write(b"line %d\n" % number)
    log.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= 110
    assert log.last_line() == "line 49"


def test_a_log_that_cannot_be_written_still_knows_its_last_line(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "missing" / "a.log")
    log.write(b"10%\r20%\rout of memory\n\n")
    assert log.last_line() == "out of memory"


def test_a_cause_is_told_before_what_followed_from_it_and_not_that_of_another_process(
    tmp_path: Path,
) -> None:
    log = LogFile(tmp_path / "a.log")
    log.write(b"ValueError: too large\n" + b"  at a line of code\n" * 500 + b"it failed\n")
    assert log.cause() == "ValueError: too large"
    assert log.last_line() == "it failed"
    log.begin()
    log.write(b"killed\n")
    assert log.cause() == "killed"
    log.close()


def test_the_last_lines_are_read_from_the_end(home: Home) -> None:
    place = home.place("pool", "rag")
    place.make()
    (place.logs / "a.log").write_text("".join(f"{n:07d}\n" for n in range(100_000)))
    (place.logs / "b.log").write_text("only\n")
    (place.logs / "b.log.1").write_text("older\n")
    assert list(read(log_files(place, "a"), 2, follow=False)) == ["0099998\n0099999\n"]
    assert list(read(log_files(place, "a"), 0, follow=False)) == []
    both = list(read(log_files(place), 1, follow=False))
    assert both == ["==> a <==\n0099999\n", "==> b <==\nonly\n"]


def test_following_goes_on_in_the_new_file_when_a_log_is_turned_over(home: Home) -> None:
    place = home.place("pool", "rag")
    place.make()
    path = place.logs / "a.log"
    path.write_text("old " * 10)
    changes = iter([lambda: path.write_text("new\n"), lambda: path.unlink(), lambda: None])
    follow = read(log_files(place), 1, follow=True, sleep=lambda _: next(changes)())
    assert [next(follow), next(follow)] == ["old " * 10, "new\n"]
