"""Which pool or engine a command means that is given no name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sagepool.cli import places
from sagepool.laptop.errors import WrongUse
from sagepool.laptop.home import Home, Place, PlaceKind
from sagepool.laptop.process import ProcessId, identify
from sagepool.laptop.record import Record, write_record
from sagepool.laptop.status import read_status


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SAGE_HOME", str(tmp_path))
    return Home(tmp_path)


def dead(home: Home, kind: PlaceKind, name: str) -> Place:
    """What a crash leaves: a record of processes that are gone."""
    place = home.place(kind, name)
    place.make()
    own = identify(os.getpid())
    assert own is not None
    gone = ProcessId(own.pid, own.started + 1, own.boot)
    write_record(place, Record(name, gone, "", "http://127.0.0.1:1", "", "ready", 0.0))
    return place


@contextmanager
def running(home: Home, kind: PlaceKind, name: str) -> Iterator[Place]:
    """A place whose supervisor lives."""
    place = dead(home, kind, name)
    lock = place.lock()
    assert lock is not None
    try:
        yield place
    finally:
        os.close(lock)


@pytest.mark.parametrize(("kind", "names"), [("pool", ("a", "b")), ("engine", ("8001", "8002"))])
def test_without_a_name_one_that_runs_is_meant_before_the_dead(
    home: Home, kind: PlaceKind, names: tuple[str, str]
) -> None:
    dead(home, kind, names[0])
    with running(home, kind, names[1]) as alive:
        assert places.choose(kind, "") == alive
        assert places.choose(kind, "", with_logs=True) == alive


def test_without_a_name_the_only_dead_one_is_meant_where_none_runs(home: Home) -> None:
    left = dead(home, "pool", "a")
    assert places.choose("pool", "") == left


def test_the_dead_are_named_only_where_none_runs(home: Home) -> None:
    dead(home, "pool", "a")
    with (
        running(home, "pool", "b"),
        running(home, "pool", "c"),
        pytest.raises(WrongUse, match=r"^several are here: name one of b, c$"),
    ):
        places.choose("pool", "")
    with pytest.raises(WrongUse, match=r"^several are here: name one of a, b, c$"):
        places.choose("pool", "")


def test_a_dead_one_is_chosen_by_its_name(home: Home) -> None:
    left = dead(home, "pool", "a")
    with running(home, "pool", "b"):
        assert places.choose("pool", "a") == left


@pytest.mark.parametrize(
    ("kind", "name", "command"),
    [("pool", "rag", "sage inference stop rag"), ("engine", "8001", "sage llm stop --port 8001")],
)
def test_what_is_dead_names_the_command_that_clears_it(
    home: Home, kind: PlaceKind, name: str, command: str
) -> None:
    status = read_status(dead(home, kind, name))
    assert status is not None
    assert status.outcome == "killed"
    assert f"`{command}` clears what is left" in status.message
