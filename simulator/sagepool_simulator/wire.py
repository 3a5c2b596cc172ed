"""What goes over the wire: requests as vLLM reads them, answers and errors as it writes them."""

import base64
import struct
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias

import msgspec

from sagepool_simulator.settings import Role

TokenId: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]

TextOrTokens: TypeAlias = str | list[str | TokenId | list[TokenId]]
"""A text, texts, token ids, or lists of token ids; see `split_inputs`."""


class Part(msgspec.Struct):
    """A part of a message; only text counts."""

    type: str = "text"
    text: str = ""


class Message(msgspec.Struct):
    """A message of a conversation."""

    role: str
    content: str | list[str | Part] | None = None


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool = False


class Generation(msgspec.Struct, kw_only=True):
    """What chat and completions have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None


class ChatRequest(Generation, kw_only=True):
    """POST /v1/chat/completions; what is not read here is ignored."""

    messages: list[Message]


class CompletionRequest(Generation, kw_only=True):
    """POST /v1/completions."""

    prompt: TextOrTokens


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """POST /v1/embeddings."""

    model: str
    input: TextOrTokens
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class RerankRequest(msgspec.Struct, kw_only=True):
    """POST /rerank."""

    model: str
    query: str
    documents: list[str]
    top_n: int | None = None


class ScoreRequest(msgspec.Struct, kw_only=True):
    """POST /score."""

    model: str
    text_1: str | list[str]
    text_2: str | list[str]


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """POST /tokenize: a prompt, or messages."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None


class ApiError(Exception):
    """An answer with an error, in vLLM's form.

    Args:
        status: HTTP status.
        message: for people.
        kind: vLLM's name of the error.
        param: the field at fault.
        fields: lines for the answer's head.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str,
        param: str | None = None,
        *,
        fields: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(status, message, kind, param)
        self.fields = fields


def bad_request(message: str, param: str | None = None) -> ApiError:
    """A request that makes no sense."""
    return ApiError(400, message, "BadRequestError", param)


def error_body(status: int, message: str, kind: str, param: str | None = None) -> bytes:
    """vLLM's error object."""
    return encode({"error": {"message": message, "type": kind, "param": param, "code": status}})


class Roles(Protocol):
    """What is served, and for what."""

    def role_of(self, model: str) -> Role | None:
        """What the model does; None when it is not served."""


def check_model(served: Roles, model: str, wanted: Role | None) -> None:
    """Refuse a model that is not served, or not in that role. Raises ApiError."""
    role = served.role_of(model)
    if role is None:
        raise ApiError(404, f"The model `{model}` does not exist.", "NotFoundError", "model")
    if wanted is not None and role != wanted:
        api = "Chat Completions" if wanted == "llm" else "Embeddings"
        raise bad_request(f"The model does not support {api} API", "model")


def split_inputs(given: TextOrTokens, param: str) -> list[str | list[int]]:
    """The single inputs, texts or token ids. Raises ApiError for none and for a mixture."""
    if isinstance(given, str):
        return [given]
    kinds = {type(item) for item in given}
    if kinds == {int}:
        return [[item for item in given if isinstance(item, int)]]
    if kinds not in ({str}, {list}) or [] in given:
        raise bad_request(
            f"{param} must be a text, texts, token ids or lists of token ids, and not empty", param
        )
    return [item for item in given if not isinstance(item, int)]


def messages_text(messages: list[Message]) -> str:
    """The text of a conversation: roles and text parts, in order."""
    return "\n".join(f"{message.role}: {_text(message.content)}" for message in messages)


def _text(content: str | list[str | Part] | None) -> str:
    if isinstance(content, list):
        return " ".join(part if isinstance(part, str) else part.text for part in content)
    return content or ""


def encode_vector(vector: list[float], encoding: str | None) -> list[float] | str:
    """A vector as numbers, or as base64 of little-endian float32."""
    if encoding != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    """The usage object."""
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached} if cached else None,
    }


encode: Final = msgspec.json.encode
