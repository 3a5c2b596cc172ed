"""The awaited client."""

import asyncio
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, Unpack, overload

from sagepool.calls import Call, chat_call, embed_call, generate_call, plain
from sagepool.closing import AsyncClosing
from sagepool.control_plane import DEFAULT_STARTUP_S, ControlPlane, build_control_plane
from sagepool.core import ClientCore, ClientOptions, name_models, read_exchange
from sagepool.detection import Detection, detect_async
from sagepool.endpoints import Endpoint, Kind
from sagepool.errors import NotFoundError, SagepoolError
from sagepool.instances import Instances
from sagepool.parameters import (
    ChatParameters,
    EmbedParameters,
    GenerateParameters,
    Message,
    read_timeout,
)
from sagepool.results import Content, Result, Vectors
from sagepool.streams import AsyncStream
from sagepool.transport import AsyncLink, Request


class AsyncUnifiedInferenceClient(ClientCore, AsyncClosing):
    """`UnifiedInferenceClient`, awaited: the same methods, parameters, results and errors.

    It belongs to the event loop in which it was first used. A task that is cancelled while it
    waits for an answer frees the engine at once.

    Args:
        endpoints: by kind; `create`, `create_auto` and `create_with_control_plane` find them.
        options: time-outs and retries.
        detection: how the endpoints were found.
        control_plane: the router in this process that answers at the endpoints.
    """

    _instances: ClassVar[
        weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, Instances["AsyncUnifiedInferenceClient"]
        ]
    ] = weakref.WeakKeyDictionary()

    def __init__(
        self,
        endpoints: Mapping[Kind, Endpoint],
        options: ClientOptions,
        detection: Detection | None = None,
        control_plane: ControlPlane | None = None,
    ) -> None:
        super().__init__(endpoints, options, detection, control_plane)
        self._links = {e: AsyncLink(e, self._connect_timeout_s) for e in self._servers()}
        self._stop = None
        if control_plane is not None:
            self._stop = weakref.finalize(self, control_plane.stop)

    @classmethod
    async def create_auto(
        cls,
        *,
        llm_model: str | None = None,
        embedding_model: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """`UnifiedInferenceClient.create_auto`, awaited."""
        detection = await detect_async(llm_model=llm_model, embedding_model=embedding_model)
        return cls(detection.endpoints(), options, detection)

    @classmethod
    async def create_with_control_plane(
        cls,
        instances: Sequence[Mapping[str, Any]],
        scheduling_policy: str = "hybrid",
        *,
        scheduling: Mapping[str, Any] | None = None,
        startup_timeout: float = DEFAULT_STARTUP_S,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """`UnifiedInferenceClient.create_with_control_plane`, awaited.

        The router has a thread and an event loop of its own here too: it is never in the way of
        this loop, nor this loop in its.
        """
        plane = build_control_plane(instances, scheduling_policy, scheduling)
        try:
            client = cls(plane.endpoints, options, control_plane=plane)
            limit_s = read_timeout(startup_timeout, "startup_timeout")
            await asyncio.to_thread(plane.start, limit_s)
        except BaseException:
            await asyncio.to_thread(plane.stop)
            raise
        return client

    @classmethod
    async def get_instance(
        cls, key: str = "default", *, base_url: str | None = None, **arguments: Any
    ) -> "AsyncUnifiedInferenceClient":
        """The client of this name in the running event loop; see the blocking one's."""
        held = cls._instances.setdefault(asyncio.get_running_loop(), Instances())
        given = arguments if base_url is None else {"base_url": base_url, **arguments}
        found = held.find(key, given)
        if found is not None:
            return found
        made = cls.create(**given) if base_url else await cls.create_auto(**arguments)
        kept = held.get(key, given, lambda: made)
        if kept is not made:  # another task was faster
            await made.close()
        return kept

    @overload
    async def chat(
        self,
        messages: Sequence[Message] | str,
        *,
        model: str | None = None,
        stream: Literal[False] = False,
        return_result: Literal[False] = False,
        **parameters: Unpack[ChatParameters],
    ) -> str: ...

    @overload
    async def chat(
        self,
        messages: Sequence[Message] | str,
        *,
        model: str | None = None,
        stream: Literal[False] = False,
        return_result: Literal[True],
        **parameters: Unpack[ChatParameters],
    ) -> Result[str]: ...

    @overload
    async def chat(
        self,
        messages: Sequence[Message] | str,
        *,
        model: str | None = None,
        stream: Literal[True],
        return_result: bool = False,
        **parameters: Unpack[ChatParameters],
    ) -> AsyncStream: ...

    async def chat(
        self,
        messages: Sequence[Message] | str,
        *,
        model: str | None = None,
        stream: bool = False,
        return_result: bool = False,
        **parameters: Unpack[ChatParameters],
    ) -> str | Result[str] | AsyncStream:
        """`UnifiedInferenceClient.chat`, awaited."""
        call = chat_call(messages, stream, parameters)
        if stream:
            return await self._open(call, model)
        return await self._ask(call, model, return_result)

    @overload
    async def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        stream: Literal[False] = False,
        return_result: Literal[False] = False,
        **parameters: Unpack[GenerateParameters],
    ) -> str: ...

    @overload
    async def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        stream: Literal[False] = False,
        return_result: Literal[True],
        **parameters: Unpack[GenerateParameters],
    ) -> Result[str]: ...

    @overload
    async def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        stream: Literal[True],
        return_result: bool = False,
        **parameters: Unpack[GenerateParameters],
    ) -> AsyncStream: ...

    async def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        stream: bool = False,
        return_result: bool = False,
        **parameters: Unpack[GenerateParameters],
    ) -> str | Result[str] | AsyncStream:
        """`UnifiedInferenceClient.generate`, awaited."""
        call = generate_call(prompt, stream, parameters)
        if stream:
            return await self._open(call, model)
        return await self._ask(call, model, return_result)

    @overload
    async def embed(
        self,
        texts: Sequence[str] | str,
        *,
        model: str | None = None,
        return_result: Literal[False] = False,
        **parameters: Unpack[EmbedParameters],
    ) -> Vectors: ...

    @overload
    async def embed(
        self,
        texts: Sequence[str] | str,
        *,
        model: str | None = None,
        return_result: Literal[True],
        **parameters: Unpack[EmbedParameters],
    ) -> Result[Vectors]: ...

    async def embed(
        self,
        texts: Sequence[str] | str,
        *,
        model: str | None = None,
        return_result: bool = False,
        **parameters: Unpack[EmbedParameters],
    ) -> Vectors | Result[Vectors]:
        """`UnifiedInferenceClient.embed`, awaited."""
        return await self._ask(embed_call(texts, parameters), model, return_result)

    async def close(self) -> None:
        """Close all connections and stop the control plane; a second time does nothing."""
        self._is_closed = True
        for link in self._links.values():
            await link.close()
        if self._stop is not None:
            await asyncio.to_thread(self._stop)

    async def _ask(
        self, call: Call[Content], model: str | None, return_result: bool
    ) -> Content | Result[Content]:
        link, request = await self._prepare(call, model)
        try:
            exchange = await link.send(request)
        except NotFoundError as error:
            await self._name_models(error, call.kind)
            raise
        result = read_exchange(call, request, exchange)
        return result if return_result else plain(result)

    async def _open(self, call: Call[str], model: str | None) -> AsyncStream:
        link, request = await self._prepare(call, model)
        try:
            return AsyncStream(call, request, await link.open(request))
        except NotFoundError as error:
            await self._name_models(error, call.kind)
            raise

    async def _prepare(self, call: Call[Any], model: str | None) -> tuple[AsyncLink, Request]:
        link = self._links[self._endpoint(call.kind).server]
        known = self._known_model(call.kind, model)
        if known is None:
            known = self._learn_model(call.kind, await link.send(self._list_request()))
        return link, self._request(call, known)

    async def _name_models(self, error: NotFoundError, kind: Kind) -> None:
        self._forget_model(kind)
        try:
            link = self._links[self._endpoint(kind).server]
            name_models(error, await link.send(self._list_request()))
        except SagepoolError:
            return  # the first error says more
