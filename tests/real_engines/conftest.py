"""Where `make test-engines` has installed vLLM."""

from pathlib import Path

import pytest

from real_engines import Engines
from required_environment import read_required


@pytest.fixture(scope="session")
def engines() -> Engines:
    """The environment that holds vLLM."""
    sentence = "needs vLLM: run `make test-engines`, or set SAGEPOOL_TEST_ENGINES to its Python"
    return Engines(Path(read_required("SAGEPOOL_TEST_ENGINES", sentence)))
