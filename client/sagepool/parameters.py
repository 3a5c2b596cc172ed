"""What may be asked for beside the messages, the prompt or the texts.

The OpenAI API's parameters have their names here so that type checkers know them. Whatever else
is given goes into the body as it is: engines know more than the OpenAI API.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from sagepool.endpoints import is_header_text
from sagepool.errors import ConfigurationError

Message: TypeAlias = Mapping[str, Any]
"""{"role": ..., "content": ...} as the OpenAI API knows it, images and tool calls included."""
Priority: TypeAlias = Literal["critical", "high", "normal", "low", "background"]


class CallParameters(TypedDict, total=False):
    """Of every call; these do not go into the body."""

    timeout: float
    """Seconds for the whole call, retries included; for a stream: to its beginning, and then
    between two of its parts. Instead of the client's."""
    priority: Priority
    """Whose turn it is when requests wait (x-sagepool-priority)."""
    deadline_ms: int
    """Milliseconds after which the answer is worth nothing (x-sagepool-deadline-ms)."""
    session: str
    """Requests that belong together and go to the same engine while it has room (x-session-id)."""
    extra_headers: Mapping[str, str]
    """Further request headers."""
    extra_body: Mapping[str, Any]
    """Fields of the body whose names are not known here; a field given by name wins."""


class _Sampling(CallParameters, total=False):
    temperature: float | None
    top_p: float | None
    n: int | None
    stop: str | Sequence[str] | None
    max_tokens: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[str, float] | None
    seed: int | None
    user: str
    stream_options: Mapping[str, Any] | None


class ChatParameters(_Sampling, total=False):
    """Of `chat`. None means: left out."""

    max_completion_tokens: int | None
    logprobs: bool | None
    top_logprobs: int | None
    response_format: Mapping[str, Any]
    tools: Sequence[Mapping[str, Any]]
    tool_choice: str | Mapping[str, Any]
    parallel_tool_calls: bool
    reasoning_effort: str | None
    modalities: Sequence[str] | None
    metadata: Mapping[str, str] | None
    store: bool | None
    service_tier: str | None


class GenerateParameters(_Sampling, total=False):
    """Of `generate`. None means: left out."""

    best_of: int | None
    echo: bool | None
    logprobs: int | None
    suffix: str | None


class EmbedParameters(CallParameters, total=False):
    """Of `embed`. None means: left out."""

    dimensions: int | None
    encoding_format: Literal["float", "base64"]
    """How the vectors travel; `embed` gives numbers back in both."""
    user: str


_HEADERS = {
    "priority": "x-sagepool-priority",
    "deadline_ms": "x-sagepool-deadline-ms",
    "session": "x-session-id",
}


def split(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str], float | None]:
    """Part what goes into the body from what does not.

    Returns:
        The fields of the body, request headers, the call's time-out.

    Raises:
        ConfigurationError: a time-out, a header or extra_body is unusable.
    """
    rest = dict(parameters)
    timeout = rest.pop("timeout", None)
    if timeout is not None:
        timeout = read_timeout(timeout)
    headers: dict[str, str] = {}
    for name, header in _HEADERS.items():
        value = rest.pop(name, None)
        if value is not None:
            headers[header] = str(value)
    headers.update(_mapping("extra_headers", rest.pop("extra_headers", None)))
    for name, text in headers.items():
        if not isinstance(text, str) or not is_header_text(f"{name}{text}"):
            raise ConfigurationError(f"the header {name!r} must be printable ASCII")
    body = dict(_mapping("extra_body", rest.pop("extra_body", None)))
    body.update({name: value for name, value in rest.items() if value is not None})
    return body, headers, timeout


def read_timeout(value: object, name: str = "timeout") -> float:
    """Check the time-out of this name.

    Raises:
        ConfigurationError: it is not a positive number of seconds.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ConfigurationError(f"{name} must be a positive number of seconds, not {value!r}")
    return float(value)


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} must be a mapping, not {type(value).__name__}")
    return value
