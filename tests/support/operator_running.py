"""The whole operator in the test's process, over the fake API server and engines that answer."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Final, TypeAlias

import httpx

from engine_answers import PlayedEngines
from operator_waiting import until
from operator_world import IMAGES, World, play_cluster
from sagepool_crds import names
from sagepool_kube.api import KubeApi
from sagepool_operator.config import ProbeIntervals, Settings
from sagepool_operator.runtime import Operator

Answer: TypeAlias = Callable[[httpx.Request], Awaitable[httpx.Response]]
SETTINGS: Final = Settings(images=IMAGES, probe=ProbeIntervals(starting_s=0.01, ready_s=0.05))


async def engine(request: httpx.Request) -> httpx.Response:
    """Every address answers as an engine that serves both models of the pool."""
    if request.url.path == "/v1/models":
        data = [{"id": "qwen2.5-7b"}, {"id": "bge-m3"}]
        return httpx.Response(200, json={"data": data})
    if request.url.path == "/v1/embeddings":
        return httpx.Response(200, json={"data": [{"embedding": [0.6, 0.8]}]})
    return httpx.Response(200, text="")


@asynccontextmanager
async def running(
    kube: KubeApi, settings: Settings = SETTINGS, answer: Answer = engine
) -> AsyncIterator[Operator]:
    operator = Operator(
        kube,
        settings,
        rng=Random(1),
        transport=httpx.MockTransport(answer),
        pods=PlayedEngines(answer),
    )
    operator.start()
    try:
        yield operator
    finally:
        await operator.stop()


async def play_until(world: World, condition: Callable[[], bool]) -> None:
    """Play the cluster until the condition holds."""

    def check() -> bool:
        play_cluster(world.kube)
        return condition()

    await until(check, limit_s=20)


def is_ready(world: World, ready: str = "3/3") -> Callable[[], bool]:
    """Every engine answers, and the cluster has nothing left to do either."""

    def check() -> bool:
        return (
            world.condition(names.READY) == ("True", "AllReady")
            and world.condition(names.PROGRESSING) == ("False", "Settled")
            and world.status.ready == ready
        )

    return check


async def idle(operator: Operator) -> None:
    await until(lambda: not operator.health()["queueDepth"])
