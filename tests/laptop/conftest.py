from pathlib import Path

import pytest

from sage_command import Sage


@pytest.fixture
def sage(tmp_path: Path) -> Sage:
    """The command with an empty home."""
    return Sage(tmp_path / "home")
