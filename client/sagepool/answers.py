"""Reading a server's answers: OpenAI's forms, and errors in the forms that servers really use.

Pure. Sources: the OpenAI API reference; vLLM 0.25 `entrypoints/openai/protocol.py`; Text
Embeddings Inference 1.9 `router/src/lib.rs` (ErrorResponse); FastAPI's `detail`.
"""

import base64
import binascii
import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sagepool.errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SagepoolError,
    ServerError,
    UnavailableError,
    UnexpectedAnswerError,
)
from sagepool.retries import read_retry_after

_EXCERPT: Final = 300
_BY_STATUS: Final[Mapping[int, type[SagepoolError]]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: APITimeoutError,
    429: RateLimitError,
    502: UnavailableError,
    503: UnavailableError,
    504: APITimeoutError,
    529: UnavailableError,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP, whole."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    url: str


class _Wire(BaseModel):
    """A part of an answer: only what is read, and nothing is refused for being more."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class WireUsage(_Wire):
    """Tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class WireAnswer(_Wire):
    """An answer to a chat or a completion, or one event of its stream.

    The choices stay as they are: what an engine adds to them is for the caller.
    """

    id: str | None = None
    model: str | None = None
    choices: list[dict[str, Any]] = []
    usage: WireUsage | None = None


class _WireVector(_Wire):
    index: int
    embedding: list[float] | str


class WireEmbeddings(_Wire):
    """An answer to an embedding request."""

    id: str | None = None
    model: str | None = None
    data: list[_WireVector]
    usage: WireUsage | None = None

    def vectors(self) -> list[list[float]]:
        """The embeddings in the order of the texts.

        Raises:
            ValueError: one of them is not base64 of 32-bit floats.
        """
        ordered = sorted(self.data, key=lambda item: item.index)
        return [_floats(item.embedding) for item in ordered]


class WireModel(_Wire):
    """A model as a server lists it; the last three are a sagepool router's."""

    id: str
    owned_by: str | None = None
    role: str | None = None
    ready: bool = True


class WireModels(_Wire):
    """The answer to GET /v1/models."""

    data: list[WireModel]


_W = TypeVar("_W", bound=BaseModel)


def read(form: type[_W], answer: Answer) -> _W:
    """Read an answer of status 200.

    Raises:
        UnexpectedAnswerError: it has another form.
    """
    try:
        return form.model_validate_json(answer.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise UnexpectedAnswerError(
            f"{answer.url} answers, but not as the OpenAI API does ({place}: {first['msg']}): is "
            "it the right address?",
            status=answer.status,
            request_id=answer.headers.get("x-request-id"),
            headers=answer.headers,
        ) from None


def error_of(answer: Answer, request_id: str) -> SagepoolError:
    """The error that an answer with a status other than 200 tells."""
    told = _told(answer.body)
    kind = _class_of(answer.status)
    message = told.message or f"{answer.url} answers with {answer.status}"
    if kind is UnexpectedAnswerError:
        target = answer.headers.get("location", "")
        elsewhere = f" and points to {target}" if target else ""
        message = f"{answer.url} answers with {answer.status}{elsewhere}: is it the right address?"
    error = kind(
        message,
        status=answer.status,
        code=told.code,
        type=told.type,
        param=told.param,
        request_id=answer.headers.get("x-request-id", request_id),
        headers=answer.headers,
    )
    error.retry_after = read_retry_after(answer.headers)
    return error


def _class_of(status: int) -> type[SagepoolError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return BadRequestError
    return ServerError if status >= 500 else UnexpectedAnswerError


@dataclass(frozen=True, slots=True)
class ToldError:
    """What the body of an error says."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None


def read_told_error(body: object) -> ToldError:
    """Find message, code, type and param in whichever form a server tells them."""
    if not isinstance(body, Mapping):
        return ToldError()
    error = body.get("error", body)
    if isinstance(error, str):  # Text Embeddings Inference
        return ToldError(error, type=_text(body.get("error_type")))
    if not isinstance(error, Mapping):
        return ToldError()
    message = error.get("message", error.get("detail"))  # FastAPI's is `detail`
    return ToldError(
        message if isinstance(message, str) else "" if message is None else json.dumps(message),
        _text(error.get("code")),
        _text(error.get("type")),
        _text(error.get("param")),
    )


def _told(body: bytes) -> ToldError:
    try:
        return read_told_error(json.loads(body))
    except ValueError:
        text = " ".join(body[:_EXCERPT].decode("utf-8", "replace").split())
        return ToldError("" if text.startswith("<") else text)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _floats(embedding: list[float] | str) -> list[float]:
    if not isinstance(embedding, str):
        return embedding
    numbers = array("f")
    try:
        numbers.frombytes(base64.b64decode(embedding, validate=True))
    except binascii.Error as error:
        raise ValueError(f"it is not base64: {error}") from None
    return numbers.tolist()
