"""Both clients in turn."""

from collections.abc import Iterator

import pytest

from client_face import Face


@pytest.fixture(params=["blocking", "awaited"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    """One specification, held against each client."""
    face = Face(request.param == "awaited")
    yield face
    face.end()
