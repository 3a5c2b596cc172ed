"""The files that people copy from."""

from pathlib import Path

import pytest

from kubectl import Kubectl

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_the_api_server_accepts_the_example(namespace: Kubectl, name: str) -> None:
    namespace.run("apply", "--dry-run=server", "--validate=strict", "-f", str(EXAMPLES / name))
