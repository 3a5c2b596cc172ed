"""The engine and the load generator, built from the Go module beside this file."""

import os
from dataclasses import dataclass
from pathlib import Path

from bench.errors import CannotMeasure
from sagepool_cluster.build import Builder, Group
from sagepool_cluster.config import read_config
from sagepool_cluster.errors import ClusterError
from sagepool_cluster.progress import Progress

MODULE = Path(__file__).parent / "load"
_GROUP = Group("bench", ("./engine", "./client"))


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the built programs are."""

    engine: Path
    client: Path


def cache_folder() -> Path:
    """Where what was built or installed is kept; the same as the cluster's."""
    return read_config(os.environ, Path.home()).cache


def build_programs(progress: Progress) -> Programs:
    """Return the programs; build them into the cache first when they are not there.

    Raises CannotMeasure where there is no Go and none can be installed, or the build fails.
    """
    try:
        folder = Builder(cache_folder(), progress, module=MODULE).ensure(_GROUP)
    except ClusterError as error:
        raise CannotMeasure(f"the load generator cannot be built: {error}") from error
    return Programs(engine=folder / "engine", client=folder / "client")
