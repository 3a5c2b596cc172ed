"""GPUs of engines that load: what was promised to one is not promised again."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from crd_objects import group_object, pool_object
from sage_command import free_port
from sagepool.laptop.claims import Claim, one_start_at_a_time, read_claims, take_off
from sagepool.laptop.errors import CommandError, WrongUse
from sagepool.laptop.gpus import Gpu
from sagepool.laptop.home import Home, Place
from sagepool.laptop.launch import Launch
from sagepool.laptop.process import identify
from sagepool.laptop.record import PartRecord, Phase, Record, read_record, write_record
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
        found = read_claims(home, mine)
    assert [(claim.gpu, claim.share) for claim in found] == [
        ("GPU-a", 0.5),
        ("GPU-a", 0.25),
        ("GPU-b", 0.9),
    ]


def test_a_claim_tells_which_processes_take_it_and_how_much_of_it_still_loads(
    home: Home,
) -> None:
    def engine(name: str, phase: Phase, share: float) -> PartRecord:
        gpus = {"GPU-a": share} if share else {}
        return PartRecord(name, "engine", "chat", "vllm", ["m"], "http://e", phase, gpus=gpus)

    other = home.place("pool", "other")
    with (
        running(other, {}),
        subprocess.Popen(["sleep", "60"], start_new_session=True) as core,
    ):
        process = identify(core.pid)
        parts = [
            structs.replace(engine("mixed-0", "ready", 0.5), process=process),
            engine("mixed-0-embedding", "starting", 0.0),
            engine("chat-0", "waiting", 0.25),
        ]
        record = read_record(other)
        assert record is not None
        write_record(other, structs.replace(record, parts=parts))
        found = read_claims(home, home.place("pool", "mine"))
        core.kill()
    assert found == [Claim("GPU-a", 0.75, 0.25, frozenset({core.pid}))]


def test_a_pool_that_has_ended_claims_nothing(home: Home) -> None:
    other = home.place("pool", "other")
    with running(other, {"GPU-a": 0.5}):
        pass
    assert other.record.exists()
    assert read_claims(home, home.place("pool", "mine")) == []


OURS, OTHERS, STRANGER = 7, 8, 99


def claim(share: float, pid: int = OURS, *, loading: float = 0.0) -> Claim:
    return Claim("GPU-a", share, loading, frozenset({pid}))


@pytest.mark.parametrize(
    ("free", "used", "claims", "left"),
    [
        pytest.param(80, {}, [claim(0.9, loading=0.9)], 8, id="it-has-taken-nothing"),
        pytest.param(40, {OURS: 40}, [claim(0.9, loading=0.9)], 8, id="it-has-taken-a-part"),
        pytest.param(8, {OURS: 72}, [claim(0.9, loading=0.9)], 8, id="it-has-taken-all"),
        pytest.param(8, {OURS: 72}, [claim(0.9)], 8, id="it-is-ready"),
        pytest.param(4, {OURS: 76}, [claim(0.9)], 4, id="it-has-taken-more"),
        pytest.param(70, {OURS: 10}, [claim(0.5)], 40, id="it-is-ready-and-may-take-more"),
        pytest.param(
            48, {STRANGER: 32}, [claim(0.5, loading=0.5)], 8, id="beside-a-stranger-it-loads"
        ),
        pytest.param(
            28, {STRANGER: 32, OURS: 20}, [claim(0.5, loading=0.5)], 8, id="and-has-taken-a-part"
        ),
        pytest.param(8, {STRANGER: 32, OURS: 40}, [claim(0.5)], 8, id="and-is-ready"),
        pytest.param(
            40,
            {OURS: 40},
            [claim(0.5), claim(0.25, OTHERS, loading=0.25)],
            20,
            id="one-is-ready-and-another-loads",
        ),
        pytest.param(8, {}, [claim(0.9)], 8, id="it-is-ready-and-the-driver-does-not-tell"),
        pytest.param(8, {}, [claim(0.5)], 8, id="beside-a-stranger-and-the-driver-does-not-tell"),
        pytest.param(80, {}, [claim(0.5)], 40, id="it-is-ready-and-nothing-is-used"),
        pytest.param(40, {STRANGER: 40}, [claim(0.9, loading=0.9)], 0, id="there-is-too-little"),
        pytest.param(80, {}, [claim(0.9), claim(0.3)], 0, id="more-is-promised-than-there-is"),
        pytest.param(60, {STRANGER: 20}, [], 60, id="nothing-is-promised"),
    ],
)
def test_a_promise_counts_once_whether_it_was_taken_or_not(
    free: int, used: dict[int, int], claims: list[Claim], left: int
) -> None:
    shown = replace(gpu(free), used_bytes={pid: gib * GIB for pid, gib in used.items()})
    (found,) = take_off([shown], claims)
    assert found.free_bytes == pytest.approx(left * GIB, abs=2)


def test_a_gpu_that_nobody_was_promised_stays_as_it_is() -> None:
    assert take_off([gpu(60, "GPU-b")], [claim(0.9)]) == [gpu(60, "GPU-b")]


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
            request,
            home,
            read_gpus=lambda: [gpu(80)],
            check_model=lambda _: None,
            read_config=lambda _: None,
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
