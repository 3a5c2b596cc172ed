"""The blocking client."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, Unpack, overload

from sagepool.calls import Call, chat_call, embed_call, generate_call, plain
from sagepool.closing import Closing
from sagepool.control_plane import DEFAULT_STARTUP_S, ControlPlane, build_control_plane
from sagepool.core import ClientCore, ClientOptions, name_models, read_exchange
from sagepool.detection import Detection, detect
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
from sagepool.streams import Stream
from sagepool.transport import Link, Request


class UnifiedInferenceClient(ClientCore, Closing):
    """Chat, completions and embeddings through one object; `close` it, or use it in a `with`.

    Threads may share it. Its methods raise SagepoolError, each of whose subclasses says what
    became of the request.

    Args:
        endpoints: by kind; `create`, `create_auto` and `create_with_control_plane` find them.
        options: time-outs and retries.
        detection: how the endpoints were found.
        control_plane: the router in this process that answers at the endpoints.
    """

    _instances: ClassVar[Instances["UnifiedInferenceClient"]] = Instances()

    def __init__(
        self,
        endpoints: Mapping[Kind, Endpoint],
        options: ClientOptions,
        detection: Detection | None = None,
        control_plane: ControlPlane | None = None,
    ) -> None:
        super().__init__(endpoints, options, detection, control_plane)
        self._links = {e: Link(e, self._connect_timeout_s) for e in self._servers()}
        self._stop = None
        if control_plane is not None:
            # also when the client is forgotten, and at the interpreter's end
            self._stop = weakref.finalize(self, control_plane.stop)

    @classmethod
    def create_auto(
        cls,
        *,
        llm_model: str | None = None,
        embedding_model: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Find the servers: environment, cluster, this machine, cloud; `explain` says which.

        Args:
            llm_model: for chat and generate where they name none.
            embedding_model: for embed where it names none.
            options: time-outs and retries.

        Raises:
            NothingFoundError: there is no server for either kind; lists what was tried.
            ConfigurationError: a variable of the environment is wrong.
        """
        detection = detect(llm_model=llm_model, embedding_model=embedding_model)
        return cls(detection.endpoints(), options, detection)

    @classmethod
    def create_with_control_plane(
        cls,
        instances: Sequence[Mapping[str, Any]],
        scheduling_policy: str = "hybrid",
        *,
        scheduling: Mapping[str, Any] | None = None,
        startup_timeout: float = DEFAULT_STARTUP_S,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Run a router in this process over engines whose addresses are known.

        It is the router of a pool: it probes the engines, classifies, queues and places requests,
        merges embeddings, repeats elsewhere what an engine could not do.

        Args:
            instances: of each engine `host`, `port`, `model_name` and `instance_type` (llm,
                embedding or llm_embedding); `control_plane.instances` lists what else.
            scheduling_policy: hybrid, adaptive, slo_aware, priority, cost_optimized or fifo.
            scheduling: further settings, named as in `spec.scheduling` of an InferencePool.
            startup_timeout: seconds for the first engine to be ready.
            options: time-outs and retries.

        Raises:
            ConfigurationError: an instance or the policy is wrong, or `sagepool[router]` is not
                installed.
            UnavailableError: no engine was ready in time; says why, for each.
        """
        plane = build_control_plane(instances, scheduling_policy, scheduling)
        try:
            client = cls(plane.endpoints, options, control_plane=plane)
            plane.start(read_timeout(startup_timeout, "startup_timeout"))
        except BaseException:
            plane.stop()
            raise
        return client

    @classmethod
    def get_instance(
        cls, key: str = "default", *, base_url: str | None = None, **arguments: Any
    ) -> "UnifiedInferenceClient":
        """The process' client of this name; made at the first call, and anew after `close`.

        Args:
            key: the name.
            base_url: as in `create`; None: `create_auto`.
            arguments: of `create` or `create_auto`. Left out: whatever it was made with.

        Raises:
            ConfigurationError: the client of this name was made with other arguments.
            SagepoolError: as `create` or `create_auto`.
        """
        given = arguments if base_url is None else {"base_url": base_url, **arguments}
        make = cls.create_auto if base_url is None else cls.create
        return cls._instances.get(key, given, lambda: make(**given))

    @overload
    def chat(
        self,
        messages: Sequence[Message] | str,
        *,
        model: str | None = None,
        stream: Literal[False] = False,
        return_result: Literal[False] = False,
        **parameters: Unpack[ChatParameters],
    ) -> str: ...

    @overload
    def chat(
        self,
        messages: Sequence[Message] | str,
        *,
        model: str | None = None,
        stream: Literal[False] = False,
        return_result: Literal[True],
        **parameters: Unpack[ChatParameters],
    ) -> Result[str]: ...

    @overload
    def chat(
        self,
        messages: Sequence[Message] | str,
        *,
        model: str | None = None,
        stream: Literal[True],
        return_result: bool = False,
        **parameters: Unpack[ChatParameters],
    ) -> Stream: ...

    def chat(
        self,
        messages: Sequence[Message] | str,
        *,
        model: str | None = None,
        stream: bool = False,
        return_result: bool = False,
        **parameters: Unpack[ChatParameters],
    ) -> str | Result[str] | Stream:
        """Answer a conversation.

        Args:
            messages: as the OpenAI API has them; a text alone is what the user says.
            model: None: the client's.
            stream: give the text piece by piece.
            return_result: give the text with usage, tool calls and the rest. A stream has it in
                `result` anyway.
            parameters: of the OpenAI API and of the engine, and of this call (`CallParameters`).

        Raises:
            SagepoolError: there is no answer.
        """
        call = chat_call(messages, stream, parameters)
        return self._open(call, model) if stream else self._ask(call, model, return_result)

    @overload
    def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        stream: Literal[False] = False,
        return_result: Literal[False] = False,
        **parameters: Unpack[GenerateParameters],
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        stream: Literal[False] = False,
        return_result: Literal[True],
        **parameters: Unpack[GenerateParameters],
    ) -> Result[str]: ...

    @overload
    def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        stream: Literal[True],
        return_result: bool = False,
        **parameters: Unpack[GenerateParameters],
    ) -> Stream: ...

    def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        stream: bool = False,
        return_result: bool = False,
        **parameters: Unpack[GenerateParameters],
    ) -> str | Result[str] | Stream:
        """Go on with a text; no chat template is applied.

        Args:
            prompt: the text.
            model: None: the client's.
            stream: give the text piece by piece.
            return_result: give the text with usage and the rest.
            parameters: of the OpenAI API and of the engine, and of this call (`CallParameters`).

        Raises:
            SagepoolError: there is no answer.
        """
        call = generate_call(prompt, stream, parameters)
        return self._open(call, model) if stream else self._ask(call, model, return_result)

    @overload
    def embed(
        self,
        texts: Sequence[str] | str,
        *,
        model: str | None = None,
        return_result: Literal[False] = False,
        **parameters: Unpack[EmbedParameters],
    ) -> Vectors: ...

    @overload
    def embed(
        self,
        texts: Sequence[str] | str,
        *,
        model: str | None = None,
        return_result: Literal[True],
        **parameters: Unpack[EmbedParameters],
    ) -> Result[Vectors]: ...

    def embed(
        self,
        texts: Sequence[str] | str,
        *,
        model: str | None = None,
        return_result: bool = False,
        **parameters: Unpack[EmbedParameters],
    ) -> Vectors | Result[Vectors]:
        """Turn texts into vectors, one each and in their order.

        Args:
            texts: a text alone is a list of one.
            model: None: the client's.
            return_result: give the vectors with usage and the rest.
            parameters: of the OpenAI API and of the engine, and of this call (`CallParameters`).

        Raises:
            SagepoolError: there is no answer.
        """
        return self._ask(embed_call(texts, parameters), model, return_result)

    def close(self) -> None:
        """Close all connections and stop the control plane; a second time does nothing.

        Calls under way in other threads end with ConfigurationError.
        """
        self._is_closed = True
        for link in self._links.values():
            link.close()
        if self._stop is not None:
            self._stop()

    def _ask(
        self, call: Call[Content], model: str | None, return_result: bool
    ) -> Content | Result[Content]:
        link, request = self._prepare(call, model)
        try:
            exchange = link.send(request)
        except NotFoundError as error:
            self._name_models(error, call.kind)
            raise
        result = read_exchange(call, request, exchange)
        return result if return_result else plain(result)

    def _open(self, call: Call[str], model: str | None) -> Stream:
        link, request = self._prepare(call, model)
        try:
            return Stream(call, request, link.open(request))
        except NotFoundError as error:
            self._name_models(error, call.kind)
            raise

    def _prepare(self, call: Call[Any], model: str | None) -> tuple[Link, Request]:
        link = self._links[self._endpoint(call.kind).server]
        known = self._known_model(call.kind, model)
        if known is None:
            known = self._learn_model(call.kind, link.send(self._list_request()))
        return link, self._request(call, known)

    def _name_models(self, error: NotFoundError, kind: Kind) -> None:
        self._forget_model(kind)
        try:
            name_models(error, self._links[self._endpoint(kind).server].send(self._list_request()))
        except SagepoolError:
            return  # the first error says more
