"""The blocking and the awaited client under one face, so that one specification holds for both."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from sagepool import AsyncStream, AsyncUnifiedInferenceClient, Stream, UnifiedInferenceClient

T = TypeVar("T")
Client = UnifiedInferenceClient | AsyncUnifiedInferenceClient


class Face:
    """Makes clients of one kind and calls them, blocking."""

    def __init__(self, awaited: bool) -> None:
        self._runner = asyncio.Runner() if awaited else None
        self._clients: list[Client] = []

    def wait(self, outcome: Any) -> Any:
        """What comes of a call, whether it is awaited or not."""
        return outcome if self._runner is None else self._runner.run(_await(outcome))

    def keep(self, client: Client) -> Client:
        """Close it at the end."""
        self._clients.append(client)
        return client

    @property
    def kind(self) -> type[UnifiedInferenceClient] | type[AsyncUnifiedInferenceClient]:
        """The class under test."""
        return UnifiedInferenceClient if self._runner is None else AsyncUnifiedInferenceClient

    def create(self, base_url: str, **arguments: Any) -> Client:
        """`create`; no retries and a short time-out unless said otherwise."""
        arguments = {"max_retries": 0, "timeout": 5.0, **arguments}
        return self.keep(self.kind.create(base_url, **arguments))

    def create_auto(self, **arguments: Any) -> Client:
        """`create_auto`."""
        client: Client = self.wait(self.kind.create_auto(**arguments))
        return self.keep(client)

    def create_with_control_plane(self, *arguments: Any, **named: Any) -> Client:
        """`create_with_control_plane`."""
        client: Client = self.wait(self.kind.create_with_control_plane(*arguments, **named))
        return self.keep(client)

    def get_instance(self, *arguments: Any, **named: Any) -> Client:
        """`get_instance`."""
        client: Client = self.wait(self.kind.get_instance(*arguments, **named))
        return self.keep(client)

    def chat(self, client: Client, *arguments: Any, **named: Any) -> Any:
        """`chat`."""
        return self.wait(client.chat(*arguments, **named))

    def generate(self, client: Client, *arguments: Any, **named: Any) -> Any:
        """`generate`."""
        return self.wait(client.generate(*arguments, **named))

    def embed(self, client: Client, *arguments: Any, **named: Any) -> Any:
        """`embed`."""
        return self.wait(client.embed(*arguments, **named))

    def next(self, stream: Stream | AsyncStream) -> str:
        """The next piece of a stream."""
        if isinstance(stream, Stream):
            return next(stream)
        piece: str = self.wait(anext(stream))
        return piece

    def read(self, stream: Stream | AsyncStream) -> list[str]:
        """All pieces that are left."""
        if isinstance(stream, Stream):
            return list(stream)
        pieces: list[str] = self.wait(_collect(stream))
        return pieces

    def close(self, thing: Client | Stream | AsyncStream) -> None:
        """Close a client or a stream."""
        self.wait(thing.close())

    def end(self) -> None:
        """Close what is open."""
        for client in self._clients:
            self.close(client)
        if self._runner is not None:
            self._runner.close()


async def _await(outcome: Coroutine[Any, Any, T]) -> T:
    return await outcome


async def _collect(stream: AsyncStream) -> list[str]:
    return [piece async for piece in stream]
