"""What a call gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

RequestType: TypeAlias = Literal["llm_chat", "llm_generate", "embedding"]
Vectors: TypeAlias = list[list[float]]

Content = TypeVar("Content", str, list[list[float]])


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request cost, as the server counted them; 0 where it did not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Result(Generic[Content]):
    """An answer and what is known of it."""

    request_id: str
    """Finds it in the logs of the client, the router and the engine."""
    request_type: RequestType
    content: Content
    """The text of the first choice, or a vector a text."""
    model: str
    """The model that answered."""
    usage: Usage
    latency_ms: float
    """From the call to the last byte, retries included."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """`retries`; of a sagepool router `instance`, `policy` and `reason`; of chats and completions
    `choices` as they came, and of the first one `finish_reason` and `tool_calls`; of streams
    `ttft_ms`, milliseconds to the first text."""
