"""Calls as values: what is sent, and how its answer is read. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic

from sagepool.answers import Answer, WireAnswer, WireEmbeddings, WireUsage, read
from sagepool.endpoints import Kind
from sagepool.errors import BadRequestError, ConfigurationError, UnexpectedAnswerError
from sagepool.parameters import Message, split
from sagepool.results import Content, RequestType, Result, Usage, Vectors

_ROUTER_HEADERS: Final = {
    "instance": "x-sagepool-instance",
    "policy": "x-sagepool-policy",
    "reason": "x-sagepool-reason",
}


@dataclass(frozen=True, slots=True)
class Reading(Generic[Content]):
    """What the body of an answer says."""

    content: Content
    id: str | None
    model: str | None
    usage: Usage
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call(Generic[Content]):
    """One request before its model is chosen and it is sent."""

    request_type: RequestType
    path: str
    """Below the base URL."""
    fields: Mapping[str, Any]
    """The body without the model."""
    headers: Mapping[str, str]
    timeout_s: float | None
    """The caller's; None: the client's."""
    read: Callable[[Answer], Reading[Content]]

    @property
    def kind(self) -> Kind:
        """Whose endpoint it goes to."""
        return "embedding" if self.request_type == "embedding" else "llm"


def chat_call(
    messages: Sequence[Message] | str, stream: bool, given: Mapping[str, Any]
) -> Call[str]:
    """A chat; a text alone is what the user says.

    Raises:
        BadRequestError: there are no messages.
        ConfigurationError: they are no list, or a parameter cannot be used.
    """
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    conversation = _listed("messages", messages)
    if not conversation:
        raise BadRequestError("messages is empty", code="missing_messages", param="messages")
    fields, headers, timeout_s = split(given)
    body = {"messages": conversation, **_streamed(stream, fields)}
    return Call("llm_chat", "/chat/completions", body, headers, timeout_s, _read_chat)


def generate_call(prompt: str, stream: bool, given: Mapping[str, Any]) -> Call[str]:
    """A completion of a prompt.

    Raises:
        ConfigurationError: a parameter cannot be used.
    """
    fields, headers, timeout_s = split(given)
    body = {"prompt": prompt, **_streamed(stream, fields)}
    return Call("llm_generate", "/completions", body, headers, timeout_s, _read_completion)


def embed_call(texts: Sequence[str] | str, given: Mapping[str, Any]) -> Call[Vectors]:
    """Embeddings, one a text.

    Raises:
        BadRequestError: there are no texts.
        ConfigurationError: they are no list, or a parameter cannot be used.
    """
    wanted = [texts] if isinstance(texts, str) else _listed("texts", texts)
    if not wanted:
        raise BadRequestError("texts is empty", code="empty_embedding_texts", param="texts")

    def read_vectors(answer: Answer) -> Reading[Vectors]:
        return _read_embeddings(answer, len(wanted))

    fields, headers, timeout_s = split(given)
    body = {"input": wanted, **fields}
    return Call("embedding", "/embeddings", body, headers, timeout_s, read_vectors)


def _listed(name: str, value: object) -> list[Any]:
    """A list of what is given; a mapping would become its keys, and bytes numbers."""
    if isinstance(value, Mapping | bytes) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{name} must be a list or a text, not {type(value).__name__}")
    return list(value)


def _streamed(stream: bool, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    if not stream:
        return fields
    if fields.get("n", 1) != 1:
        raise ConfigurationError(
            "a stream gives the text of one choice: leave n out or set it to 1"
        )
    return {"stream_options": {"include_usage": True}, **fields, "stream": True}


def result_of(
    call: Call[Content],
    reading: Reading[Content],
    *,
    model: str,
    request_id: str,
    headers: Mapping[str, str],
    latency_ms: float,
    extra: Mapping[str, Any],
) -> Result[Content]:
    """Put together what the body, the headers and the clock say.

    Args:
        call: what was asked.
        reading: what the body says.
        model: that was asked for, in case the answer names none.
        request_id: of the request.
        headers: of the answer, names in lower case.
        latency_ms: of the call.
        extra: further metadata.
    """
    told = {name: headers[field] for name, field in _ROUTER_HEADERS.items() if field in headers}
    return Result(
        request_id=headers.get("x-request-id", request_id),
        request_type=call.request_type,
        content=reading.content,
        model=reading.model or model,
        usage=reading.usage,
        latency_ms=latency_ms,
        metadata={**told, **reading.metadata, **extra},
    )


def plain(result: Result[Content]) -> Content:
    """The content alone.

    Raises:
        UnexpectedAnswerError: the model calls tools and says nothing, which a text cannot tell.
    """
    if not result.content and result.metadata.get("tool_calls"):
        raise UnexpectedAnswerError(
            "the model calls tools instead of answering: call with return_result=True and read "
            'result.metadata["tool_calls"]',
            request_id=result.request_id,
        )
    return result.content


def usage_of(wire: WireUsage | None) -> Usage:
    """The tokens that an answer tells."""
    if wire is None:
        return Usage()
    total = wire.total_tokens or wire.prompt_tokens + wire.completion_tokens
    return Usage(wire.prompt_tokens, wire.completion_tokens, total)


def metadata_of(choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a result tells of the choices."""
    first = choices[0] if choices else {}
    message = first.get("message")
    tool_calls = message.get("tool_calls") if isinstance(message, Mapping) else None
    return {
        "choices": list(choices),
        "finish_reason": first.get("finish_reason"),
        "tool_calls": list(tool_calls or ()),
    }


def _read_chat(answer: Answer) -> Reading[str]:
    return _read_text(answer, lambda choice: choice["message"]["content"])


def _read_completion(answer: Answer) -> Reading[str]:
    return _read_text(answer, lambda choice: choice["text"])


def _read_text(answer: Answer, find: Callable[[Mapping[str, Any]], object]) -> Reading[str]:
    wire = read(WireAnswer, answer)
    try:
        text = find(wire.choices[0])
    except (LookupError, TypeError):
        raise _unlike(answer, "it has no text") from None
    if text is not None and not isinstance(text, str):
        raise _unlike(answer, f"its text is a {type(text).__name__}")
    return Reading(text or "", wire.id, wire.model, usage_of(wire.usage), metadata_of(wire.choices))


def _read_embeddings(answer: Answer, texts: int) -> Reading[Vectors]:
    wire = read(WireEmbeddings, answer)
    try:
        vectors = wire.vectors()
    except ValueError as error:
        raise _unlike(answer, f"an embedding cannot be read: {error}") from None
    if len(vectors) != texts:
        raise _unlike(answer, f"{len(vectors)} embeddings for {texts} texts")
    return Reading(vectors, wire.id, wire.model, usage_of(wire.usage), {})


def _unlike(answer: Answer, why: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(
        f"{answer.url} answers, but not as the OpenAI API does: {why}",
        status=answer.status,
        request_id=answer.headers.get("x-request-id"),
        headers=answer.headers,
    )
