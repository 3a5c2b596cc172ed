"""The two clients of before, with their names, factories and defaults, over the one of today.

What they could not do in truth, such as prefill and decode apart, routing strategies and models
inside this process, they still take by name: with a `DeprecationWarning` that says what to use.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from sagepool.client import UnifiedInferenceClient
from sagepool.closing import Closing
from sagepool.errors import UnexpectedAnswerError
from sagepool.instances import Instances
from sagepool.parameters import Message
from sagepool.results import Result, Vectors
from sagepool.streams import Stream

TEMPERATURE: Final = 0.7
MAX_TOKENS: Final = 1500
_LLM_TIMEOUT_S: Final = 60.0
_EMBEDDING_TIMEOUT_S: Final = 30.0

_INSTEAD: Final = {
    "api_key": "set SAGE_UNIFIED_API_KEY, or make the client with base_url= and api_key=",
    "control_plane_service": "use create_with_control_plane(instances)",
    "enable_pd_separation": "leave it out: prefill and decode run in one engine",
    "fallback_model": "run the model in a server (sage inference start --embedding-model MODEL)",
    "mode": "use create_auto(), or create_api(base_url): the model is always in a server",
    "probe_timeout": "leave it out: each probe has a limit of its own",
    "routing_strategy": "use scheduling_policy=",
    "use_control_plane": "use create_with_control_plane(instances)",
}
"""What to do in place of each argument that has no effect any more."""


def _warn_of(former: Mapping[str, object], taker: str) -> None:
    for name in former:
        if name not in _INSTEAD:
            raise TypeError(f"{taker} got an unexpected keyword argument {name!r}")
        warnings.warn(
            f"{taker}: {name} has no effect: {_INSTEAD[name]}", DeprecationWarning, stacklevel=3
        )


class _Adapter(Closing):
    def __init__(self, client: UnifiedInferenceClient) -> None:
        self.client = client
        """The client that does the work."""

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self.client.is_closed

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def explain(self) -> str:
        """Which server answers, and why that one."""
        return self.client.explain()


class IntelligentLLMClient(_Adapter):
    """Chats only; `UnifiedInferenceClient` does all of it, and more.

    Args:
        model_name: for every request; None: the first that the server lists.
        base_url: of the server.
        api_key: its key.
        timeout: seconds for a call.
        seed: sent with every request.
        client: a client to use instead of making one for `base_url`.
        former: arguments of before that have no effect; each warns.
    """

    _instances: ClassVar[Instances["IntelligentLLMClient"]] = Instances()

    def __init__(
        self,
        model_name: str | None = None,
        base_url: str = "http://127.0.0.1:8001/v1",
        api_key: str = "",
        timeout: float = _LLM_TIMEOUT_S,
        seed: int | None = None,
        *,
        client: UnifiedInferenceClient | None = None,
        **former: Any,
    ) -> None:
        _warn_of(former, "IntelligentLLMClient")
        super().__init__(
            client
            or UnifiedInferenceClient.create(
                base_url, api_key=api_key or None, model=model_name, timeout=timeout
            )
        )
        self.model_name = model_name
        self.seed = seed

    @classmethod
    def create_auto(
        cls,
        model_name: str | None = None,
        *,
        timeout: float = _LLM_TIMEOUT_S,
        seed: int | None = None,
        **former: Any,
    ) -> Self:
        """Find the server in the order of `UnifiedInferenceClient.create_auto`.

        Arguments of before that have no effect warn, and say what to use.

        Raises:
            TypeError: an argument was never known.
            NothingFoundError: there is none.
        """
        _warn_of(former, "IntelligentLLMClient.create_auto")
        client = UnifiedInferenceClient.create_auto(llm_model=model_name, timeout=timeout)
        return cls(model_name, seed=seed, client=client)

    @classmethod
    def create_with_control_plane(
        cls,
        instances: Sequence[Mapping[str, Any]],
        scheduling_policy: str = "adaptive",
        routing_strategy: str | None = None,
        enable_pd_separation: bool | None = None,
        *,
        timeout: float = _LLM_TIMEOUT_S,
    ) -> Self:
        """Run a router in this process; see `UnifiedInferenceClient.create_with_control_plane`.

        `routing_strategy` and `enable_pd_separation` have no effect.
        """
        former = {
            "routing_strategy": routing_strategy,
            "enable_pd_separation": enable_pd_separation,
        }
        _warn_of(
            {name: value for name, value in former.items() if value is not None},
            "IntelligentLLMClient.create_with_control_plane",
        )
        client = UnifiedInferenceClient.create_with_control_plane(
            instances, scheduling_policy, timeout=timeout
        )
        return cls(client=client)

    @classmethod
    def get_instance(
        cls, model_name: str | None = None, cache_key: str | None = None, **arguments: Any
    ) -> "IntelligentLLMClient":
        """The process' client of this name; made at the first call: for `base_url` where that is
        given, by `create_auto` else.

        Args:
            model_name: for every request of a client that is made.
            cache_key: the name; None: the model's, or "default".
            arguments: of the class or of `create_auto`.

        Raises:
            ConfigurationError: the client of this name was made with other arguments.
            NothingFoundError: there is no server.
        """
        if model_name is not None:
            arguments["model_name"] = model_name
        make = cls if "base_url" in arguments else cls.create_auto
        name = cache_key or model_name or "default"
        return cls._instances.get(name, arguments, lambda: make(**arguments))

    @classmethod
    def get_cached_keys(cls) -> list[str]:
        """The names for which `get_instance` holds an open client."""
        return cls._instances.names()

    @classmethod
    def clear_instances(cls) -> None:
        """Close every client that `get_instance` made, and forget it."""
        for client in cls._instances.take_all():
            client.close()

    def chat(
        self,
        messages: Sequence[Message] | str,
        temperature: float = TEMPERATURE,
        max_tokens: int = MAX_TOKENS,
        stream: bool = False,
        priority: str | None = None,
        slo_deadline_ms: int | None = None,
        enable_thinking: bool = False,
        logprobs: bool = False,
        n: int = 1,
        **parameters: Any,
    ) -> str | tuple[str, list[float]] | list[str] | list[tuple[str, list[float]]] | Iterator[str]:
        """Answer a conversation.

        Returns:
            The text; with `logprobs` a pair of it and its tokens' log probabilities; with `n` above
            1 a list of these; with `stream` an iterator over pieces of the text.

        Raises:
            SagepoolError: there is no answer.
        """
        given: dict[str, Any] = {
            "temperature": temperature,
            "max_tokens": max_tokens,
            "priority": priority.lower() if priority else None,
            "deadline_ms": slo_deadline_ms,
            "seed": self.seed,
            "n": n if n != 1 else None,
            "logprobs": True if logprobs else None,
            **parameters,
        }
        if enable_thinking:
            given["chat_template_kwargs"] = {
                **given.get("chat_template_kwargs", {}),
                "enable_thinking": True,
            }
        if stream:
            pieces: Stream = self.client.chat(messages, stream=True, **given)
            return pieces
        if not logprobs and n == 1:
            text: str = self.client.chat(messages, **given)
            return text
        result = self.client.chat(messages, return_result=True, **given)
        texts = _texts(result)
        if not logprobs:
            return texts
        pairs = list(zip(texts, _log_probabilities(result), strict=True))
        return pairs if n > 1 else pairs[0]

    def generate(
        self,
        messages: Sequence[Message] | Message | str,
        temperature: float = TEMPERATURE,
        max_tokens: int | None = None,
        max_new_tokens: int | None = None,
        stream: bool = False,
        **parameters: Any,
    ) -> str | tuple[str, list[float]] | list[str] | list[tuple[str, list[float]]] | Iterator[str]:
        """`chat` under its other name, which takes one message and `max_new_tokens` too."""
        limit = max_tokens if max_tokens is not None else max_new_tokens
        return self.chat(
            [messages] if isinstance(messages, Mapping) else messages,
            temperature,
            MAX_TOKENS if limit is None else limit,
            stream,
            **parameters,
        )

    def cleanup(self) -> None:
        """`close` under its other name."""
        self.close()


class IntelligentEmbeddingClient(_Adapter):
    """Embeds only; `UnifiedInferenceClient` does all of it, and more.

    Args:
        base_url: of the server.
        model: for every request; None: the first that the server lists.
        api_key: its key.
        timeout: seconds for a call.
        client: a client to use instead of making one for `base_url`.
        former: arguments of before that have no effect; each warns.
    """

    _instances: ClassVar[Instances["IntelligentEmbeddingClient"]] = Instances()

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8090/v1",
        model: str | None = None,
        api_key: str = "",
        timeout: float = _EMBEDDING_TIMEOUT_S,
        *,
        client: UnifiedInferenceClient | None = None,
        **former: Any,
    ) -> None:
        _warn_of(former, "IntelligentEmbeddingClient")
        super().__init__(
            client
            or UnifiedInferenceClient.create(
                base_url, api_key=api_key or None, embedding_model=model, timeout=timeout
            )
        )
        self.model = model
        self._dimension: int | None = None

    @classmethod
    def create_auto(
        cls,
        model: str | None = None,
        fallback_model: str | None = None,
        *,
        timeout: float = _EMBEDDING_TIMEOUT_S,
        **former: Any,
    ) -> Self:
        """Find the server in the order of `UnifiedInferenceClient.create_auto`.

        Arguments of before that have no effect warn, and say what to use.

        Raises:
            TypeError: an argument was never known.
            NothingFoundError: there is none.
        """
        if fallback_model is not None:
            former["fallback_model"] = fallback_model
        _warn_of(former, "IntelligentEmbeddingClient.create_auto")
        client = UnifiedInferenceClient.create_auto(embedding_model=model, timeout=timeout)
        return cls(model=model, client=client)

    @classmethod
    def create(cls, model: str | None = None, **arguments: Any) -> Self:
        """`create_auto` under its other name."""
        return cls.create_auto(model, **arguments)

    @classmethod
    def create_api(cls, base_url: str, model: str | None = None, **arguments: Any) -> Self:
        """Use a server whose address is known."""
        return cls(base_url, model, **arguments)

    @classmethod
    def get_instance(
        cls, cache_key: str = "default", **arguments: Any
    ) -> "IntelligentEmbeddingClient":
        """The process' client of this name; made at the first call: for `base_url` where that is
        given, by `create_auto` else."""
        make = cls if "base_url" in arguments else cls.create_auto
        return cls._instances.get(cache_key, arguments, lambda: make(**arguments))

    def embed(self, texts: Sequence[str] | str, model: str | None = None) -> Vectors:
        """Turn texts into vectors.

        Raises:
            SagepoolError: there is no answer.
        """
        return self.client.embed(texts, model=model)

    def get_dim(self) -> int:
        """Length of the vectors; asks for one the first time.

        Raises:
            SagepoolError: there is no answer.
        """
        if self._dimension is None:
            self._dimension = len(self.embed(["dimension"])[0])
        return self._dimension


def _texts(result: Result[str]) -> list[str]:
    return [choice["message"].get("content") or "" for choice in result.metadata["choices"]]


def _log_probabilities(result: Result[str]) -> list[list[float]]:
    try:
        return [
            [token["logprob"] for token in choice["logprobs"]["content"]]
            for choice in result.metadata["choices"]
        ]
    except (KeyError, TypeError):
        raise UnexpectedAnswerError(
            "the server gave no log probabilities: does its engine know logprobs?",
            request_id=result.request_id,
        ) from None
