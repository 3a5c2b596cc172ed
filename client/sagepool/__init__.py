"""The Python client of sagepool: chat, completions and embeddings through one object.

    from sagepool import UnifiedInferenceClient

    with UnifiedInferenceClient.create_auto() as client:
        print(client.chat("Hello!"))

A name is loaded when it is first used: `import sagepool` costs nothing, and the command line starts
without the client's libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sagepool.async_client import AsyncUnifiedInferenceClient
    from sagepool.client import UnifiedInferenceClient
    from sagepool.detection import Detection, detect, detect_async
    from sagepool.endpoints import Endpoint
    from sagepool.errors import (
        APIConnectionError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ConfigurationError,
        NotFoundError,
        NothingFoundError,
        PermissionDeniedError,
        RateLimitError,
        SagepoolError,
        ServerError,
        StreamBrokenError,
        UnavailableError,
        UnexpectedAnswerError,
    )
    from sagepool.legacy import IntelligentEmbeddingClient, IntelligentLLMClient
    from sagepool.results import Result, Usage
    from sagepool.streams import AsyncStream, Stream

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AsyncStream",
    "AsyncUnifiedInferenceClient",
    "AuthenticationError",
    "BadRequestError",
    "ConfigurationError",
    "Detection",
    "Endpoint",
    "IntelligentEmbeddingClient",
    "IntelligentLLMClient",
    "NotFoundError",
    "NothingFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "Result",
    "SagepoolError",
    "ServerError",
    "Stream",
    "StreamBrokenError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnifiedInferenceClient",
    "Usage",
    "detect",
    "detect_async",
]

_MODULES = {
    "AsyncStream": "streams",
    "AsyncUnifiedInferenceClient": "async_client",
    "Detection": "detection",
    "Endpoint": "endpoints",
    "IntelligentEmbeddingClient": "legacy",
    "IntelligentLLMClient": "legacy",
    "Result": "results",
    "Stream": "streams",
    "UnifiedInferenceClient": "client",
    "Usage": "results",
    "detect": "detection",
    "detect_async": "detection",
}
"""Where a name is; all others are errors."""

if not TYPE_CHECKING:  # else every misspelt name would pass the type checker

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"sagepool.{_MODULES.get(name, 'errors')}"), name)

    def __dir__():
        return [*globals(), *__all__]
