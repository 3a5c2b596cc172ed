"""A pool's router inside this process, over engines whose addresses are given.

Nothing of the router is imported before a control plane is built: the client works without it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from sagepool.endpoints import Endpoint, Kind
from sagepool.errors import ConfigurationError

DEFAULT_STARTUP_S: Final = 30.0
"""For the first engine to be ready."""


class ControlPlane(Protocol):
    """What a client sees of the router."""

    @property
    def endpoints(self) -> Mapping[Kind, Endpoint]:
        """Where it answers, by kind."""

    def start(self, timeout_s: float) -> None:
        """Start it and wait until an engine is ready.

        Raises:
            UnavailableError: none was in time.
        """

    def explain(self) -> str:
        """Its policy and every engine's state: some lines for people."""

    def stop(self) -> None:
        """Stop it; nothing of it is left. Before `start`, and again, it does nothing."""


def build_control_plane(
    instances: Sequence[Mapping[str, Any]],
    scheduling_policy: str,
    scheduling: Mapping[str, Any] | None,
) -> ControlPlane:
    """Build a router; it does nothing before it is started.

    Raises:
        ConfigurationError: an instance or the scheduling is wrong, or a package is missing.
    """
    try:
        from sagepool.control_plane.plane import RouterPlane
        from sagepool.control_plane.pool import build_pool
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("sagepool."):
            raise
        raise ConfigurationError(
            f"a control plane needs the router, but {error.name} is not installed: "
            'pip install "sagepool[router]"'
        ) from None
    return RouterPlane(*build_pool(instances, scheduling_policy, scheduling or {}))
