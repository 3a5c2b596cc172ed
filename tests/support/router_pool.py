"""A router before one or more engines, each with its behaviour."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from router_engines import Engine, serve_engine
from router_server import RouterServer, backend, serve_router, table_of
from sagepool_router.auth.source import KeySource
from sagepool_router.limits import Limits
from sagepool_router.scheduling.settings import SchedulingSettings


@dataclass(frozen=True)
class Pool:
    """Everything that runs."""

    router: RouterServer
    engines: tuple[Engine, ...]

    @property
    def port(self) -> int:
        return self.router.port

    @property
    def engine(self) -> Engine:
        """The first one."""
        return self.engines[0]

    def requests(self) -> list[int]:
        """How many each engine got."""
        return [len(engine.requests) for engine in self.engines]


def name_of(position: int) -> str:
    return f"engine-{'abcdefgh'[position]}"


@contextmanager
def serve_pool(
    *behaviours: str,
    limits: Limits | None = None,
    limit: int = 256,
    engine: str = "vllm",
    role: str = "llm",
    scheduling: SchedulingSettings | None = None,
    keys: KeySource | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Pool]:
    """All engines serve the model "ok" until the block ends."""
    with ExitStack() as stack:
        engines = tuple(stack.enter_context(serve_engine(name)) for name in behaviours)
        backends = [
            backend(e.port, instance=name_of(i), limit=limit, engine=engine, role=role)
            for i, e in enumerate(engines)
        ]
        table = table_of(*backends, scheduling=scheduling)
        router = stack.enter_context(serve_router(table, limits, keys=keys, clock=clock))
        yield Pool(router, engines)
