"""Which engine gets which GPU."""

from types import SimpleNamespace

import pynvml
import pytest

from sagepool.laptop.errors import WrongUse
from sagepool.laptop.gpus import Demand, Gpu, assign_gpus, read_gpus


def gpu(index: int, free: float = 1.0) -> Gpu:
    return Gpu(index, f"GPU-{index}", "H100", 1000, int(1000 * free))


def demand(engine: str, fraction: float = 0.9, count: int = 1) -> Demand:
    group = engine.rpartition("-")[0]
    return Demand(engine, f"group {group}", count, fraction, "take none", "ask for less")


def chosen(gpus: list[Gpu], *demands: Demand) -> dict[str, list[int]]:
    given = assign_gpus(gpus, demands)
    return {engine: [one.index for one in many] for engine, many in given.items()}


def test_each_gets_the_emptiest() -> None:
    gpus = [gpu(0, 0.5), gpu(1), gpu(2, 0.95)]
    assert chosen(gpus, demand("a-0", 0.4), demand("a-1", 0.4), demand("b-0", 0.6)) == {
        "a-0": [1],
        "a-1": [2],
        "b-0": [1],
    }


def test_engines_share_a_gpu_while_their_shares_fit() -> None:
    assert chosen([gpu(0)], demand("chat-0", 0.7), demand("embed-0", 0.3)) == {
        "chat-0": [0],
        "embed-0": [0],
    }


def test_several_gpus_of_one_engine_are_different_ones() -> None:
    assert chosen([gpu(0), gpu(1)], demand("chat-0", 0.9, 2)) == {"chat-0": [0, 1]}


@pytest.mark.parametrize(
    ("gpus", "demands", "says"),
    [
        (
            [gpu(0)],
            [demand("chat-0", 0.7), demand("embed-0", 0.4)],
            r"group embed needs 1 GPU with 40% of the memory free for embed-0, and left are "
            r"GPU 0 \(H100\) 30%: ask for less, or stop what uses them",
        ),
        ([gpu(0, 0.2)], [demand("chat-0")], r"left are GPU 0 \(H100\) 20%"),
        ([gpu(0)], [demand("chat-0", 0.9, 2)], r"needs 2 GPUs"),
        ([], [demand("chat-0")], r"shows no NVIDIA GPU: take none"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_is_left(
    gpus: list[Gpu], demands: list[Demand], says: str
) -> None:
    with pytest.raises(WrongUse, match=says):
        assign_gpus(gpus, demands)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that shows two; the second does not tell how busy it is, nor who uses it."""

    def rates(index: int) -> SimpleNamespace:
        if index == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(gpu=25)

    def processes(index: int) -> list[SimpleNamespace]:
        if index == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        shown = ((7, 600), (8, 300), (9, None))
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in shown]

    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda index: SimpleNamespace(total=1000, free=100 + index),
        "nvmlDeviceGetUtilizationRates": rates,
        "nvmlDeviceGetComputeRunningProcesses": processes,
        "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
        "nvmlDeviceGetName": lambda _: "H100",
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_read_with_what_is_free() -> None:
    assert read_gpus({}) == [
        Gpu(0, "GPU-0", "H100", 1000, 100, 0.25, {7: 600, 8: 300}),
        Gpu(1, "GPU-1", "H100", 1000, 101, 0.0),
    ]


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("visible", "seen"), [("1", [1]), ("GPU-0", [0]), ("0, GPU-1", [0, 1]), ("", [])]
)
def test_only_gpus_that_this_user_s_programs_see_are_given(visible: str, seen: list[int]) -> None:
    found = read_gpus({"CUDA_VISIBLE_DEVICES": visible})
    assert [one.index for one in found] == seen


def test_a_machine_without_a_driver_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert read_gpus({}) == []


@pytest.mark.usefixtures("two_gpus")
def test_a_driver_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", fail)
    with pytest.raises(WrongUse, match=r"the GPUs cannot be read: .*; see nvidia-smi"):
        read_gpus({})
