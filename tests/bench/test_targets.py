"""What is started, and what is made of what the load generator says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from bench.cli import choose_cores
from bench.errors import CannotMeasure, LoadFailed, TargetFailed
from bench.machine import read_siblings
from bench.measure import read_answers
from bench.processes import running
from bench.procfs import parse_stat
from bench.targets import Cores, build_command, parse_baselines, pool_file
from bench.workloads import build_workloads

from sagepool_crds.instance import InferenceInstance
from sagepool_crds.pool import InferencePool

CHAT, *_, MEMORY = build_workloads(streams=1000, quick=False)


def result(**changes: object) -> str:
    """What the load generator prints."""
    good = {
        "requests": 2,
        "events": 0,
        "errors": 0,
        "first_error": "",
        "open": 0,
        "wall_us": 2_000_000,
        "cpu_us": 1_000,
        "latency_us": [1500, 2500],
        "first_us": [],
    }
    return json.dumps(good | changes)


def test_answers_are_read_in_seconds_and_milliseconds() -> None:
    answers = read_answers(result(), CHAT, "chat on router")
    assert (answers.wall_s, answers.cpu_s, answers.latencies_ms) == (2.0, 0.001, (1.5, 2.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"errors": 1, "first_error": "503 busy"},
            "1 of 3 answers were wrong; the first: 503 busy",
        ),
        ({"requests": 0}, "not one answer came"),
    ],
)
def test_wrong_answers_leave_no_figures(changes: dict[str, object], message: str) -> None:
    with pytest.raises(LoadFailed, match=f"chat on router: {message}"):
        read_answers(result(**changes), CHAT, "chat on router")


def test_memory_counts_only_when_all_streams_were_open_at_once() -> None:
    with pytest.raises(LoadFailed, match="only 999 of 1000 streams were open at once"):
        read_answers(result(open=999), MEMORY, "memory on plain")


def test_baselines_are_named_commands() -> None:
    assert parse_baselines(["mine=python 'my proxy.py'"]) == {"mine": ("python", "my proxy.py")}


@pytest.mark.parametrize(
    "options", [["python x.py"], ["=x"], ["mine="], ["bare=x"], ["mine=x", "mine=y"]]
)
def test_other_baselines_are_refused(options: list[str]) -> None:
    with pytest.raises(CannotMeasure, match="--baseline"):
        parse_baselines(options)


def test_a_baseline_is_given_its_port_and_the_engines(tmp_path: Path) -> None:
    command = build_command("mine", {"mine": ("python", "mine.py")}, 81, 82, tmp_path)
    assert command == ["python", "mine.py", "81", "82"]


def test_the_routers_pool_is_a_valid_pool_of_the_one_engine() -> None:
    pool, instance = yaml.safe_load_all(pool_file(engine_port=8123))
    names = {group.model.name for group in InferencePool.model_validate(pool).spec.groups}
    endpoints = InferenceInstance.model_validate(instance).spec.endpoints
    assert names == {model for endpoint in endpoints for model in endpoint.models}
    assert {endpoint.url for endpoint in endpoints} == {"http://127.0.0.1:8123"}


def alone(core: int) -> set[int]:
    """Every core is a physical one."""
    return {core}


def paired(core: int) -> set[int]:
    """Two threads a core: 0 and 1, 2 and 3."""
    return {core & ~1, core | 1}


@pytest.mark.parametrize(
    ("available", "siblings", "cores"),
    [
        ({3, 5}, alone, Cores(load=3, router=5, engine=3)),
        ({5, 3, 7, 9}, alone, Cores(load=3, router=5, engine=7)),
        ({0, 1}, paired, Cores(load=0, router=1, engine=0)),
        ({0, 1, 2, 3}, paired, Cores(load=0, router=2, engine=1)),
        (set(range(16)), paired, Cores(load=0, router=2, engine=4)),
    ],
)
def test_load_router_and_engine_get_a_core_each_as_far_as_there_are_any(
    available: set[int], siblings: Callable[[int], set[int]], cores: Cores
) -> None:
    assert choose_cores(available, siblings) == cores


def test_one_core_is_not_enough() -> None:
    with pytest.raises(CannotMeasure, match="needs two CPU cores"):
        choose_cores({0}, alone)


@pytest.mark.parametrize(
    ("text", "siblings"),
    [("0,8\n", {0, 8}), ("0-1\n", {0, 1}), ("0\n", {0}), ("0-1,8-9\n", {0, 1, 8, 9}), ("?\n", {0})],
)
def test_siblings_are_read_as_the_kernel_writes_them(
    tmp_path: Path, text: str, siblings: set[int]
) -> None:
    (tmp_path / "cpu0" / "topology").mkdir(parents=True)
    (tmp_path / "cpu0" / "topology" / "thread_siblings_list").write_text(text)
    assert read_siblings(0, tmp_path) == siblings


def test_a_machine_that_does_not_tell_siblings_has_none(tmp_path: Path) -> None:
    assert read_siblings(3, tmp_path) == {3}


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(CannotMeasure, match=r"mine cannot be started: \./no-such-program"):
        running("mine", ["./no-such-program"], 0).__enter__()


def test_a_program_that_ends_is_reported_with_its_last_words() -> None:
    with running("mine", ["sh", "-c", "echo no config >&2; exit 3"], 0) as program:
        program.process.wait(10)
        with pytest.raises(TargetFailed, match="mine ended with 3: no config"):
            program.check()


def test_a_program_that_ignores_the_signal_is_ended_with_its_children() -> None:
    script = "trap '' TERM; (trap '' TERM; sleep 60) & echo $!; wait; sleep 60"
    with running("stubborn", ["sh", "-c", script], 0, stop_limit_s=0.1) as program:
        assert program.process.stdout is not None
        child = int(program.process.stdout.readline())
        assert Path(f"/proc/{child}").exists()
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or parse_stat(state.read_text()).is_zombie
