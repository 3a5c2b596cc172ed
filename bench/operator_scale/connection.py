"""The way to the API server of the bench's cluster."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sagepool_kube.auth import load_configuration
from sagepool_kube.client import KubeClient


@asynccontextmanager
async def connect(name: str) -> AsyncIterator[KubeClient]:
    """A client that the audit log knows by this name; KUBECONFIG says where the server is."""
    configuration = await load_configuration(os.environ)
    async with KubeClient(configuration, user_agent=name, timeout_s=60.0) as api:
        yield api
