"""Several routers before the same engines."""

from collections.abc import Callable, Sequence

from bench.simulation.plain import Router
from bench.simulation.traffic import Request


class DividedRouter:
    """Routers that know nothing of each other; each request comes to one of them by chance.

    Args:
        routers: at least one.
        random: uniform in [0, 1).
    """

    def __init__(self, routers: Sequence[Router], random: Callable[[], float]) -> None:
        self._routers = routers
        self._random = random

    def submit(self, request: Request) -> None:
        """A request has arrived: give it to one of the routers."""
        self._routers[int(self._random() * len(self._routers))].submit(request)
