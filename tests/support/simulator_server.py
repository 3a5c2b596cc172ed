"""A simulator on the test's own loop, over real sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sagepool_simulator.faults import Fault
from sagepool_simulator.server import listen
from sagepool_simulator.settings import Settings

CHAT, EMBEDDING = "tiny-chat", "tiny-embed"


def build_settings(**changes: Any) -> Settings:
    """A small instant engine with one model of each kind."""
    given: dict[str, Any] = {
        "models": ((CHAT, "llm"), (EMBEDDING, "embedding")),
        "dimension": 32,
        "default_max_tokens": 8,
    }
    return Settings(**{**given, **changes})


@asynccontextmanager
async def serving(*faults: Fault, **changes: Any) -> AsyncIterator[str]:
    """Serve with these faults and settings; yield the base URL."""
    simulator, server = await listen(build_settings(**changes), "127.0.0.1", 0, faults)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await simulator.stop(0.0)
