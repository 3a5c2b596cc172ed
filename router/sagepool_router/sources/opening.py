"""Makes the source that the settings ask for; only its own libraries are imported."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeAlias, assert_never

from sagepool_router.config import Settings
from sagepool_router.sources.publisher import TablePublisher
from sagepool_router.sources.status import Source

SourceOpener: TypeAlias = Callable[[Settings, TablePublisher], AbstractAsyncContextManager[Source]]
"""Makes a source and closes what it needs when the block ends."""


class StartError(Exception):
    """The router cannot start; the message is one sentence with the next step."""


@asynccontextmanager
async def open_source(settings: Settings, publisher: TablePublisher) -> AsyncIterator[Source]:
    """Open the source that the settings ask for.

    Raises:
        StartError: there is no cluster's configuration to use.
    """
    async with AsyncExitStack() as stack:
        match settings.source:
            case "kubernetes":
                yield await _open_kubernetes(settings, publisher, stack)
            case "file":
                yield _open_file(settings, publisher)
            case _:
                assert_never(settings.source)


async def _open_kubernetes(
    settings: Settings, publisher: TablePublisher, stack: AsyncExitStack
) -> Source:
    from sagepool_kube.auth import load_configuration
    from sagepool_kube.client import KubeClient
    from sagepool_kube.errors import NoCluster
    from sagepool_router.sources.kubernetes import KubernetesSource

    if settings.pool is None:
        raise StartError("--source kubernetes needs --pool")
    try:
        configuration = await load_configuration(os.environ)
    except NoCluster as error:
        raise StartError(str(error)) from error
    api = await stack.enter_async_context(
        KubeClient(configuration, user_agent=f"sagepool-router/{settings.pool.name}")
    )
    return KubernetesSource(api, settings.pool, publisher)


def _open_file(settings: Settings, publisher: TablePublisher) -> Source:
    from sagepool_router.sources.engine_http import EngineConnections
    from sagepool_router.sources.file import FileSource

    if settings.config is None:
        raise StartError("--source file needs --config")
    return FileSource(settings.config, settings.pool, publisher, EngineConnections())
