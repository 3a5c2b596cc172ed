"""The GPUs of this machine, and which engine gets which. Reading is NVML's; choosing is pure."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sagepool.laptop.errors import WrongUse

DEFAULT_FRACTION: Final = 0.9
"""What vLLM takes of a GPU when nothing is said."""
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    utilisation: float = 0.0
    """Share of the last second in which it computed."""
    used_bytes: Mapping[int, int] = field(default_factory=dict)
    """What processes hold of its memory, by their number, as far as the driver tells."""

    @property
    def free_fraction(self) -> float:
        """Share of its memory that nobody uses."""
        return self.free_bytes / self.total_bytes if self.total_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Demand:
    """What one engine asks for."""

    engine: str
    subject: str
    """Who asks, in the user's words."""
    count: int
    fraction: float
    """Of the memory of each."""
    without_gpu: str
    """What the user can do where there is no GPU, in the words of what was given."""
    with_less: str
    """What the user can do where too little is left."""


def assign_gpus(gpus: Sequence[Gpu], demands: Iterable[Demand]) -> dict[str, tuple[Gpu, ...]]:
    """GPUs by engine: each demand gets the emptiest that have its share left.

    Engines share a GPU when their shares fit into it together with what others use already.

    Raises:
        WrongUse: a demand does not fit; the message says what is left.
    """
    left = {gpu.uuid: gpu.free_fraction for gpu in gpus}
    given: dict[str, tuple[Gpu, ...]] = {}
    for demand in demands:
        emptiest = sorted(gpus, key=lambda gpu: (-left[gpu.uuid], gpu.index))
        fitting = [g for g in emptiest if left[g.uuid] + _ROUNDING >= demand.fraction]
        if len(fitting) < demand.count:
            raise WrongUse(_does_not_fit(demand, gpus, left))
        chosen = tuple(fitting[: demand.count])
        for gpu in chosen:
            left[gpu.uuid] -= demand.fraction
        given[demand.engine] = chosen
    return given


def _does_not_fit(demand: Demand, gpus: Sequence[Gpu], left: Mapping[str, float]) -> str:
    wants = (
        f"{demand.subject} needs {demand.count} GPU{'s' * (demand.count > 1)} with "
        f"{demand.fraction:.0%} of the memory free for {demand.engine}"
    )
    if not gpus:
        return f"{wants}, and this machine shows no NVIDIA GPU: {demand.without_gpu}"
    listed = ", ".join(f"GPU {g.index} ({g.name}) {max(0.0, left[g.uuid]):.0%}" for g in gpus)
    return f"{wants}, and left are {listed}: {demand.with_less}, or stop what uses them"


def read_gpus(environ: Mapping[str, str]) -> list[Gpu]:
    """The GPUs that this user's programs may use: CUDA_VISIBLE_DEVICES is respected.

    Empty where there is no NVIDIA driver.
    """
    import pynvml

    found: list[Gpu] = []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            found.append(_read_gpu(index))
    except pynvml.NVMLError as error:
        raise WrongUse(f"the GPUs cannot be read: {error}; see nvidia-smi") from error
    finally:
        pynvml.nvmlShutdown()
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    named = [name.strip() for name in visible.split(",")]
    return [gpu for gpu in found if str(gpu.index) in named or gpu.uuid in named]


def _read_gpu(index: int) -> Gpu:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    utilisation, used_bytes = 0.0, {}
    with contextlib.suppress(pynvml.NVMLError):  # not every GPU tells
        utilisation = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    with contextlib.suppress(pynvml.NVMLError):
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.usedGpuMemory is not None:
                used_bytes[int(process.pid)] = int(process.usedGpuMemory)
    return Gpu(
        index=index,
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        name=str(pynvml.nvmlDeviceGetName(handle)),
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        utilisation=utilisation,
        used_bytes=used_bytes,
    )
