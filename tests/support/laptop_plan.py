"""Pools as they are planned on one machine with two GPUs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sagepool.laptop.backends import move_groups
from sagepool.laptop.gpus import Gpu
from sagepool.laptop.home import Home
from sagepool.laptop.launch import Launch, PartLaunch
from sagepool.laptop.manifest import admit_objects, choose_pool
from sagepool.laptop.plan import Options, plan_pool
from sagepool.laptop.secrets import Secrets

Plan = Callable[..., Launch]
GPUS: Final = (Gpu(0, "GPU-a", "H100", 100, 100), Gpu(1, "GPU-b", "H100", 100, 100))


def plan_objects(
    home: Home,
    *objects: dict[str, Any],
    read_gpus: Callable[[], Sequence[Gpu]] = lambda: GPUS,
    **backends: str,
) -> Launch:
    """What the objects of a file become."""
    document = choose_pool(admit_objects(objects, "f"), None, "f")
    document = replace(document, pool=move_groups(document.pool, backends))
    options = Options("127.0.0.1", 8000, 9090, "info", backends)
    return plan_pool(document, home.place("pool", "rag"), options, Secrets(home.secrets), read_gpus)


def engines(launch: Launch) -> dict[str, PartLaunch]:
    """Its engine processes by name."""
    return {part.name: part for part in launch.parts if part.kind == "engine"}


def install_vllm(folder: Path) -> None:
    """A program of that name; nobody starts it."""
    folder.mkdir()
    (folder / "vllm").write_text("#!/bin/sh\n")
    (folder / "vllm").chmod(0o755)
