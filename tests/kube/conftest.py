"""One world, twice: the fake API server and a real one. Both must pass the same suite."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kube_fake import FakeKube
from kube_world import NAMESPACES, World
from sagepool_kube.auth import load_configuration
from sagepool_kube.client import KubeClient


@pytest.fixture(params=["fake", pytest.param("server", marks=pytest.mark.cluster)])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """An API with a namespace of the test's own."""
    if request.param == "fake":
        yield World(FakeKube(), "team-a")
        return
    request.getfixturevalue("crds")
    kubeconfig: Path = request.getfixturevalue("kubeconfig")
    configuration = await load_configuration(os.environ, kubeconfig=kubeconfig)
    name = f"test-{uuid.uuid4().hex[:8]}"
    async with KubeClient(configuration, page_size=2) as client:
        await client.create(NAMESPACES, None, {"metadata": {"name": name}})
        try:
            yield World(client, name)
        finally:
            await client.delete(NAMESPACES, None, name)
