"""The inference routes: one table for the protocol, the classifier and /openapi.json."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from sagepool_crds.pool import Role

Kind: TypeAlias = Literal[
    "chat",
    "completion",
    "response",
    "message",
    "transcription",
    "embedding",
    "rerank",
    "score",
    "classification",
    "pooling",
    "tokenize",
]
RequestType: TypeAlias = Literal["llm_chat", "llm_generate", "embedding", "other"]

REQUEST_TYPES: Final[tuple[RequestType, ...]] = ("llm_chat", "llm_generate", "embedding")
"""What a request may say of itself; other is what only a route can say."""


class Endpoint:
    """An inference route."""

    __slots__ = ("accepted_types", "is_form", "kind", "path", "request_type", "role")

    def __init__(
        self,
        path: bytes,
        kind: Kind,
        role: Role | None,
        request_type: RequestType,
        accepted_types: tuple[RequestType, ...],
        is_form: bool = False,
    ) -> None:
        self.path: Final = path
        self.kind: Final[Kind] = kind
        self.role: Final[Role | None] = role
        """The role that a model must have to answer here; None: any."""
        self.request_type: Final[RequestType] = request_type
        """The type of requests that name none."""
        self.accepted_types: Final = accepted_types
        """Types that a request may name here; all others conflict with the route."""
        self.is_form: Final = is_form
        """The body is multipart/form-data instead of JSON."""


_CHAT: Final[tuple[RequestType, ...]] = ("llm_chat",)
_GENERATE: Final[tuple[RequestType, ...]] = ("llm_generate",)
_LLM: Final[tuple[RequestType, ...]] = ("llm_chat", "llm_generate")
_EMBEDDING: Final[tuple[RequestType, ...]] = ("embedding",)


_ROUTES: Final = (
    Endpoint(b"/v1/chat/completions", "chat", "llm", "llm_chat", _CHAT),
    Endpoint(b"/v1/completions", "completion", "llm", "llm_generate", _GENERATE),
    Endpoint(b"/v1/responses", "response", "llm", "llm_chat", _LLM),
    Endpoint(b"/v1/messages", "message", "llm", "llm_chat", _CHAT),
    Endpoint(b"/v1/audio/transcriptions", "transcription", "llm", "other", _GENERATE, is_form=True),
    Endpoint(b"/v1/embeddings", "embedding", "embedding", "embedding", _EMBEDDING),
    Endpoint(b"/v1/rerank", "rerank", "embedding", "other", _EMBEDDING),
    Endpoint(b"/v2/rerank", "rerank", "embedding", "other", _EMBEDDING),
    Endpoint(b"/rerank", "rerank", "embedding", "other", _EMBEDDING),
    Endpoint(b"/v1/score", "score", "embedding", "other", _EMBEDDING),
    Endpoint(b"/score", "score", "embedding", "other", _EMBEDDING),
    Endpoint(b"/v1/classify", "classification", "embedding", "other", _EMBEDDING),
    Endpoint(b"/classify", "classification", "embedding", "other", _EMBEDDING),
    Endpoint(b"/pooling", "pooling", "embedding", "other", _EMBEDDING),
    Endpoint(b"/tokenize", "tokenize", None, "other", REQUEST_TYPES),
)
ENDPOINTS: Final[Mapping[bytes, Endpoint]] = MappingProxyType(
    {endpoint.path: endpoint for endpoint in _ROUTES}
)
"""The inference routes by path: POST only."""
