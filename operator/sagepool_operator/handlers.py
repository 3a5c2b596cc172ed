"""The only module that knows kopf.

kopf gives discovery of the kinds, login, watches that wake pools, signals, start, stop and the
liveness endpoint. It does not give the cache: its index keeps objects that vanished while a watch
was renewed (see cache.py), and its change handlers would put finalizers and annotations on users'
objects. So there is one `on.event` handler, which puts a pool's key into our queue and does nothing
else. Our reflectors wake the queue too, for pools and for all that belongs to them. A second wake
for a pool is free, and a watch of pools that has fallen silent on one side is covered by the other;
a second copy of every instance and Deployment would not be free.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, repeat
from typing import Any, Final

import kopf

from sagepool_crds.meta import PoolKey
from sagepool_kube.api import POOLS
from sagepool_operator.config import Settings
from sagepool_operator.errors import OperatorError
from sagepool_operator.runtime import Operator

_SERVER_TIMEOUT_S: Final = 240
"""The API server takes whole seconds only."""
_CLIENT_TIMEOUT_S: Final = 250


class EndlessBackoff:
    """Waits between attempts to reach the API server, without an end.

    kopf ends the operator when they run out, and iterates anew for each request: a plain
    generator would be used up by the first one.
    """

    def __iter__(self) -> Iterator[float]:
        """Short waits first, then two seconds for ever."""
        return chain((0.2, 0.5, 1.0), repeat(2.0))


class Lifecycle:
    """The operator between kopf's start-up and its clean-up."""

    def __init__(self, make: Callable[[], Operator], stop_flag: asyncio.Event) -> None:
        """Take what makes the operator inside the event loop, and what ends kopf."""
        self._make = make
        self._stop_flag = stop_flag
        self._operator: Operator | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the operator and start it."""
        self._operator = self._make()
        self._operator.start()
        self._watch = asyncio.create_task(self._stop_when_failed(self._operator))

    async def stop(self) -> None:
        """Stop it."""
        if self._watch is not None:
            self._watch.cancel()
        if self._operator is not None:
            await self._operator.stop()

    def wake(self, key: PoolKey) -> None:
        """Look at a pool soon."""
        if self._operator is not None:
            self._operator.wake(key)

    def health(self) -> Mapping[str, Any]:
        """What the liveness endpoint says.

        Raises:
            OperatorError: the operator has to be started again.
        """
        if self._operator is None:
            raise OperatorError("the operator has not started")
        return self._operator.health()

    async def _stop_when_failed(self, operator: Operator) -> None:
        await operator.failed.wait()
        self._stop_flag.set()


def build_registry(lifecycle: Lifecycle) -> kopf.OperatorRegistry:
    """All registrations, each with an id of its own."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(id="start", registry=registry)
    async def start(**_: Any) -> None:
        await lifecycle.start()

    @kopf.on.cleanup(id="stop", registry=registry)
    async def stop(**_: Any) -> None:
        await lifecycle.stop()

    @kopf.on.login(id="login", registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.probe(id="operator", registry=registry)
    async def probe(**_: Any) -> Mapping[str, Any]:
        try:
            return lifecycle.health()
        except OperatorError as error:
            raise kopf.PermanentError(str(error)) from error  # answered with 500

    # The group is named, or kopf would ask every group for the kind.
    @kopf.on.event(POOLS.group, POOLS.version, POOLS.plural, id="wake", registry=registry)
    async def wake(namespace: str | None, name: str, **_: Any) -> None:
        lifecycle.wake(PoolKey(namespace or "", name))

    return registry


def build_kopf_settings() -> kopf.OperatorSettings:
    """kopf's settings: least rights, no traces on users' objects, no end because of an outage."""
    settings = kopf.OperatorSettings()
    settings.networking.error_backoffs = EndlessBackoff()
    settings.watching.server_timeout = _SERVER_TIMEOUT_S
    settings.watching.client_timeout = _CLIENT_TIMEOUT_S
    settings.peering.standalone = True
    settings.posting.enabled = False
    # Without scanning no right to list namespaces and CustomResourceDefinitions is needed.
    settings.scanning.disabled = True
    return settings


async def serve(make: Callable[[], Operator], settings: Settings, stop_flag: asyncio.Event) -> None:
    """Run until SIGTERM, SIGINT or `stop_flag`; the flag is also set when the operator fails."""
    lifecycle = Lifecycle(make, stop_flag)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    await kopf.operator(
        registry=build_registry(lifecycle),
        settings=build_kopf_settings(),
        standalone=True,
        # Its own guess asks for the user's name, which a container's user id need not have.
        identity="sagepool-operator",  # type: ignore[arg-type]  # a NewType that it keeps private
        clusterwide=settings.namespace is None,
        namespaces=[settings.namespace] if settings.namespace is not None else [],
        liveness_endpoint=f"http://0.0.0.0:{settings.liveness_port}/healthz",
        stop_flag=stop_flag,
    )
