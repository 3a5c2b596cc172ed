"""Facts of the machine and of the programs, without which figures mean nothing."""

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("uvicorn", "uvloop", "httptools", "fastapi", "httpx")


def read_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> Mapping[str, str]:
    """Return what a reader must know to judge the figures; to be called before the run."""
    return {
        "CPU": read_cpu_model(cpuinfo.read_text()),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / (1 << 30):.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        **{package: metadata.version(package) for package in _PACKAGES},
    }


def read_siblings(core: int, folder: Path = Path("/sys/devices/system/cpu")) -> frozenset[int]:
    """The logical cores that share a physical one with this one, itself among them."""
    path = folder / f"cpu{core}" / "topology" / "thread_siblings_list"
    try:
        ranges = [part.split("-") for part in path.read_text().strip().split(",")]
        return frozenset(n for ends in ranges for n in range(int(ends[0]), int(ends[-1]) + 1))
    except (OSError, ValueError):  # some virtual machines do not say
        return frozenset({core})


def read_cpu_model(cpuinfo: str) -> str:
    """Return the model's name from the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.machine()
