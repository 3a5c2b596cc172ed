"""Clients that a process shares, by a key."""

import threading
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from sagepool.errors import ConfigurationError


class _Closable(Protocol):
    @property
    def is_closed(self) -> bool: ...


_C = TypeVar("_C", bound=_Closable)


class Instances(Generic[_C]):
    """Holds one open client a key, and what it was made with."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._held: dict[str, tuple[_C, Mapping[str, object]]] = {}

    def find(self, key: str, arguments: Mapping[str, object]) -> _C | None:
        """The open client of this key.

        Raises:
            ConfigurationError: it was made with other arguments.
        """
        with self._lock:
            found = self._held.get(key)
            if found is None or found[0].is_closed:
                return None
            client, made_with = found
            if arguments and arguments != made_with:
                raise ConfigurationError(
                    f"the client {key!r} was made with other arguments: close it first or take "
                    "another key"
                )
            return client

    def get(self, key: str, arguments: Mapping[str, object], make: Callable[[], _C]) -> _C:
        """The open client of this key; made if there is none, by one caller only.

        Raises:
            ConfigurationError: it was made with other arguments.
        """
        with self._lock:
            client = self.find(key, arguments)
            if client is None:
                client = make()
                self._held[key] = (client, arguments)
            return client

    def names(self) -> list[str]:
        """The keys of the open clients, in the order in which these were made."""
        with self._lock:
            return [key for key, (client, _) in self._held.items() if not client.is_closed]

    def take_all(self) -> list[_C]:
        """Hand over every client, for the caller to close, and hold none."""
        with self._lock:
            clients = [client for client, _ in self._held.values()]
            self._held.clear()
            return clients
