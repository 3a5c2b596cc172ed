"""Small runs with real programs."""

import os
from collections.abc import Iterator, Sequence

import pytest
from bench.cli import main
from bench.scale.cli import main as main_of_scale
from bench.targets import BUILT_IN, DIRECT, ROUTER


@pytest.fixture
def own_affinity() -> Iterator[None]:
    """Gives the test process its cores back."""
    cores = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)


# The first run on a machine builds the load generator, and installs Go for it where there is none.
@pytest.mark.timeout(240)
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPU cores")
@pytest.mark.usefixtures("own_affinity")
@pytest.mark.parametrize(
    ("targets", "workloads"),
    [
        pytest.param(BUILT_IN, ["chat", "memory"], id="every-target"),
        # Plain Python alone would take ten seconds for the streams.
        pytest.param((DIRECT, ROUTER), ["paced"], id="streams"),
        pytest.param((DIRECT, ROUTER), ["chat", "half", "embedding"], id="open-loop"),
    ],
)
def test_a_small_run_measures_every_target_with_every_workload(
    targets: Sequence[str], workloads: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--quick", "--streams", "20"]
    status = main([*size, "--targets", *targets, "--workloads", *workloads])
    output = capsys.readouterr()
    assert status == 0, output.err
    rows = [line.split("|")[1].strip() for line in output.out.splitlines() if line.startswith("|")]
    assert {name: rows.count(name) for name in targets} == dict.fromkeys(targets, len(workloads))


@pytest.mark.timeout(240)
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPU cores")
@pytest.mark.usefixtures("own_affinity")
def test_a_small_run_of_scale_shows_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    status = main_of_scale(["--quick", "--targets", ROUTER])
    output = capsys.readouterr()
    assert status == 0, output.err
    titles = [line for line in output.out.splitlines() if line.startswith("### ")]
    assert len(titles) == 4
