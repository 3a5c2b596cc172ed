"""The process' life: load, listen, serve, stop."""

import asyncio
import logging
import random
import signal
from typing import Final

import uvloop

from sagepool_simulator.connection import Connection
from sagepool_simulator.engine import Engine
from sagepool_simulator.faults import Fault, FaultPlan
from sagepool_simulator.routes import Simulator
from sagepool_simulator.settings import Settings

_logger: Final = logging.getLogger(__name__)
_SWEEP_S: Final = 1.0


def run(settings: Settings, host: str, port: int, faults: tuple[Fault, ...]) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when the address cannot be bound."""
    uvloop.run(_serve(settings, host, port, faults))


async def listen(
    settings: Settings, host: str, port: int, faults: tuple[Fault, ...] = ()
) -> tuple[Simulator, asyncio.Server]:
    """Listen and serve on the running loop. Raises OSError when the address cannot be bound."""
    loop = asyncio.get_running_loop()
    plan = FaultPlan(random.Random(settings.seed).random, faults)
    simulator = Simulator(settings, Engine(settings, loop), plan, loop)
    server = await loop.create_server(
        lambda: Connection(simulator, loop, settings.keep_alive_s, settings.max_body_bytes),
        host,
        port,
        backlog=4096,
    )
    return simulator, server


async def _serve(settings: Settings, host: str, port: int, faults: tuple[Fault, ...]) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if settings.load_s and await _is_set_within(stopped, settings.load_s):
        return
    simulator, server = await listen(settings, host, port, faults)
    bound = server.sockets[0].getsockname()[1]
    _logger.info("serving %s on %s:%d", ", ".join(n for n, _ in settings.models), host, bound)
    while not await _is_set_within(stopped, _SWEEP_S):
        simulator.sweep()
    server.close()
    await simulator.stop(settings.shutdown_s)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
