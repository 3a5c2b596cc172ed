"""API keys as a router reads them, and a clock for their limits."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from sagepool_router.auth.keys import ApiKey
from sagepool_router.auth.source import KeySource
from sagepool_router.dispatcher import Dispatcher


class StillClock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def secret_of(name: str) -> str:
    return f"sk-{name}-5f0c2a8e94d1b736"


def bearer(name: str) -> str:
    """The header line that a client of this key sends."""
    return f"authorization: Bearer {secret_of(name)}"


def write_keys(path: Path, **settings: dict[str, object]) -> Path:
    """A file with a key for each name."""
    entries = {name: {"key": secret_of(name), **more} for name, more in settings.items()}
    path.write_text(yaml.safe_dump(entries))
    return path


def read_keys(path: Path, clock: Callable[[], float] = time.monotonic) -> KeySource:
    """The keys of a file, as they are when a router begins to serve."""
    source = KeySource(path, clock=clock)
    asyncio.run(source.refresh())
    return source


def key_named(dispatcher: Dispatcher, name: str) -> ApiKey:
    """A key at work."""
    assert dispatcher.keys is not None
    return next(key for key in dispatcher.keys.keyring.keys if key.name == name)
