"""GPUs of engines that load: what was promised to one is not promised again."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crd_objects import group_object, pool_object
from sage_command import free_port
from sagepool.laptop.claims import one_start_at_a_time, read_claims, take_off
from sagepool.laptop.errors import CommandError, WrongUse
from sagepool.laptop.gpus import Gpu
from sagepool.laptop.home import Home, Place
from sagepool.laptop.launch import Launch
from sagepool.laptop.process import identify
from sagepool.laptop.record import PartRecord, Record, write_record
from sagepool.laptop.request import StartRequest, prepare

GIB = 1 << 30


def gpu(free: int, uuid: str = "GPU-a") -> Gpu:
    return Gpu(index=0, uuid=uuid, name="H100", total_bytes=80 * GIB, free_bytes=free * GIB)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@contextmanager
def running(place: Place, shares: dict[str, float]) -> Iterator[None]:
    """A supervisor of a pool with one engine that was promised these shares."""
    place.make()
    lock = place.lock()
    assert lock is not None
    myself = identify(os.getpid())
    assert myself is not None
    engine = PartRecord(
        "chat-0", "engine", "chat", "vllm", ["m"], "http://e", "starting", gpus=shares
    )
    record = Record(place.name, myself, "", "http://r", "", "starting", 0.0, parts=[engine])
    write_record(place, record)
    try:
        yield
    finally:
        os.close(lock)


def test_what_every_running_pool_and_engine_was_promised_is_claimed(home: Home) -> None:
    mine = home.place("pool", "mine")
    with (
        running(home.place("pool", "other"), {"GPU-a": 0.5}),
        running(home.place("engine", "8001"), {"GPU-a": 0.25, "GPU-b": 0.9}),
        running(mine, {"GPU-b": 0.1}),
    ):
        assert read_claims(home, mine) == {"GPU-a": 0.75, "GPU-b": 0.9}


def test_a_pool_that_has_ended_claims_nothing(home: Home) -> None:
    other = home.place("pool", "other")
    with running(other, {"GPU-a": 0.5}):
        pass
    assert other.record.exists()
    assert read_claims(home, home.place("pool", "mine")) == {}


@pytest.mark.parametrize(
    ("free", "claimed", "left"),
    [
        pytest.param(80, 0.9, 8, id="it-loads-still"),
        pytest.param(8, 0.9, 8, id="it-has-loaded"),
        pytest.param(4, 0.5, 4, id="a-stranger-uses-it-too"),
        pytest.param(80, 1.2, 0, id="more-than-there-is"),
    ],
)
def test_a_promise_counts_once_whether_it_was_taken_or_not(
    free: int, claimed: float, left: int
) -> None:
    (found,) = take_off([gpu(free)], {"GPU-a": claimed})
    assert found.free_bytes == pytest.approx(left * GIB, abs=1)


def test_a_gpu_that_nobody_was_promised_stays_as_it_is() -> None:
    assert take_off([gpu(60)], {"GPU-b": 0.9}) == [gpu(60)]


def test_a_pool_gets_no_gpu_that_another_was_promised_and_promises_its_own(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = {"engine": {"type": "vllm"}, "model": {"name": "m", "uri": "hf://o/m"}}
    group = group_object(**engine, gpu={"count": 1, "memoryFraction": 0.5}, replicas=1)
    file = tmp_path / "pool.yaml"
    file.write_text(json.dumps(pool_object(groups=[group])))

    def plan() -> Launch:
        request = StartRequest(file=str(file), port=free_port())
        return prepare(
            request, home, read_gpus=lambda: [gpu(80)], check_model=lambda *_: None
        ).launch

    with (
        running(home.place("pool", "other"), {"GPU-a": 0.9}),
        pytest.raises(WrongUse, match=r"left are GPU 0 \(H100\) 10%"),
    ):
        plan()
    (engine_part,) = [part for part in plan().parts if part.kind == "engine"]
    assert engine_part.gpus == {"GPU-a": 0.5}


def test_a_start_waits_for_the_one_before_it() -> None:
    order: list[str] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with one_start_at_a_time(limit_s=20):
            order.append("second")

    thread = threading.Thread(target=second)
    with one_start_at_a_time():
        thread.start()
        assert begun.wait(20)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


def test_a_start_does_not_wait_for_ever() -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    with (
        one_start_at_a_time(),
        pytest.raises(CommandError, match="another start of yours"),
        one_start_at_a_time(limit_s=60, clock=lambda: now, sleep=sleep),
    ):
        pass
    assert now == pytest.approx(60, abs=1)
