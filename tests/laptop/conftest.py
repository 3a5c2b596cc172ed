from pathlib import Path

import pytest

from sage_command import Sage, write_pool


@pytest.fixture
def sage(tmp_path: Path) -> Sage:
    """The command with an empty home."""
    return Sage(tmp_path / "home")


@pytest.fixture
def pool_file(tmp_path: Path) -> Path:
    """A pool of two simulators."""
    return write_pool(tmp_path / "pool.yaml")
