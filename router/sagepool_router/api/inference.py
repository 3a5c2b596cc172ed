"""The inference routes as /openapi.json documents them.

They are answered by `protocol.InferenceProtocol` before the application sees them; only an
unusual spelling of a path (percent-encoded letters) comes as far as here.
"""

from typing import Any, Final, NoReturn

from fastapi import APIRouter, Request
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from sagepool_router.endpoints import ENDPOINTS, Endpoint, Kind
from sagepool_router.errors import InvalidRequest

_SUMMARIES: Final[dict[Kind, str]] = {
    "chat": "Answer a conversation",
    "completion": "Continue a text",
    "response": "Answer a text or a conversation (OpenAI's Responses API)",
    "message": "Answer a conversation (Anthropic's Messages API)",
    "transcription": "Write down what is said",
    "embedding": "Embed texts",
    "rerank": "Order documents by how well they answer a query",
    "score": "Score pairs of texts",
    "classification": "Sort texts into the model's classes",
    "pooling": "Give the pooled output of the model as it is",
    "tokenize": "Cut a text into the model's tokens",
}
_STREAMING: Final[frozenset[Kind]] = frozenset(
    ("chat", "completion", "response", "message", "transcription")
)
_REFERENCE: Final = "#/components/schemas/{model}"
_MESSAGES: Final = {"type": "array", "items": {"type": "object"}, "minItems": 1}
_REQUIRED: Final[dict[Kind, dict[str, Any]]] = {
    "chat": {"messages": _MESSAGES},
    "completion": {},
    "response": {"input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]}},
    "message": {"messages": _MESSAGES},
    "transcription": {"file": {"type": "string", "format": "binary"}},
    "embedding": {
        "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {}, "minItems": 1}]}
    },
    "rerank": {"query": {"type": "string"}, "documents": {"type": "array", "items": {}}},
    "score": {},
    "classification": {},
    "pooling": {},
    "tokenize": {},
}
_STATUSES: Final = {
    400: "The request is malformed",
    404: "No such model; the message lists those that there are",
    408: "The request did not come in time",
    411: "The request has no length",
    413: "The body is too large",
    415: "The body is compressed",
    422: "As the engine says",
    429: "Every instance is at its limit: retry after Retry-After",
    502: "The engine failed",
    503: "No instance is ready, with the reason: retry after Retry-After",
    504: "The engine was silent for too long, or the request's deadline has passed",
}
_HEADERS: Final = (
    ("x-sagepool-priority", "critical, high, normal, low or background; or 0 to 4"),
    ("x-sagepool-deadline-ms", "Milliseconds that the client gives the whole request"),
    ("x-sagepool-budget", "What it should cost at most (policy cost_optimized)"),
    ("x-sagepool-request-type", "llm_chat, llm_generate or embedding; must fit the route"),
    ("x-session-id", "What belongs together; without it the body's user"),
    ("x-request-id", "Comes back in the answer and goes to the engine"),
)


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """An error as the OpenAI API writes it."""

    error: ErrorDetail


def build_inference_routes() -> APIRouter:
    """A route for each inference endpoint, so that another method is answered with 405.

    They are none of FastAPI's: it would prepare a model for each status of each, at every start.
    """
    routes = APIRouter()
    for endpoint in ENDPOINTS.values():
        path = endpoint.path.decode()
        routes.add_route(path, _not_here, methods=["POST"], include_in_schema=False)
    return routes


def document_inference(document: dict[str, Any]) -> None:
    """Add every inference route, and the error that they answer with, to an OpenAPI document."""
    _, errors = models_json_schema([(ErrorBody, "serialization")], ref_template=_REFERENCE)
    document.setdefault("components", {}).setdefault("schemas", {}).update(errors["$defs"])
    for endpoint in ENDPOINTS.values():
        path = endpoint.path.decode()
        document["paths"][path] = {
            "post": {
                "tags": ["inference"],
                "summary": _SUMMARIES[endpoint.kind],
                "operationId": path.strip("/").replace("/", "_"),
                **_request(endpoint),
                "responses": _responses(endpoint.kind),
            }
        }


async def _not_here(request: Request) -> NoReturn:
    raise InvalidRequest(
        f"there is no route {request.url.path} in this spelling: GET /openapi.json lists all",
        "unknown_route",
        status=404,
    )


def _responses(kind: Kind) -> dict[str, dict[str, Any]]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if kind in _STREAMING:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    answer = {"description": "The engine's answer, untouched", "content": content}
    error = {"schema": {"$ref": _REFERENCE.format(model=ErrorBody.__name__)}}
    refusals = {
        str(status): {"description": said, "content": {"application/json": error}}
        for status, said in _STATUSES.items()
    }
    return {"200": answer, **refusals}


def _request(endpoint: Endpoint) -> dict[str, Any]:
    required = _REQUIRED[endpoint.kind]
    content_type = "multipart/form-data" if endpoint.is_form else "application/json"
    schema = {
        "type": "object",
        "required": ["model", *required],
        "properties": {
            "model": {"type": "string", "description": "A name that GET /v1/models lists"},
            **required,
        },
        "additionalProperties": True,
        "description": "Further fields go to the engine as they are.",
    }
    return {
        "requestBody": {"required": True, "content": {content_type: {"schema": schema}}},
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": said,
                "schema": {"type": "string"},
            }
            for name, said in _HEADERS
        ],
    }
