"""A pool's endpoint in the test's own process, with faults on demand."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response, StreamingResponse
from openai import AsyncOpenAI

from sagepool_simulator.embedding import embed

WORDS = ("engines ", "come ", "and ", "go")

DIMENSION = 1024

_ENOUGH = 40


def _chunk(text: str | None, finish_reason: str | None) -> str:
    choice = {
        "index": 0,
        "delta": {} if text is None else {"content": text},
        "finish_reason": finish_reason,
    }
    chunk = {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "m",
        "choices": [choice],
    }
    return f"data: {json.dumps(chunk)}\n\n"


class DemoEndpoint:
    """Answers as a pool would, as the instance `engine-1`."""

    def __init__(self) -> None:
        self.refuses_chat = False
        """Whether chat is answered with 503."""
        self.cuts_streams = False
        """Whether streams end without a finish reason."""
        self.requests = 0
        """Requests for chat and embeddings so far."""
        self.enough = asyncio.Event()
        """Set after some requests."""
        self.app = FastAPI()
        self.app.get("/v1/models")(self._models)
        self.app.post("/v1/chat/completions")(self._chat)
        self.app.post("/v1/embeddings")(self._embeddings)

    def openai(self) -> AsyncOpenAI:
        """A client of it."""
        transport = httpx2.ASGITransport(self.app)
        return AsyncOpenAI(
            base_url="http://endpoint/v1",
            api_key="none",
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=transport),
        )

    async def _models(self) -> dict[str, Any]:
        return {
            "object": "list",
            "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "x"}],
        }

    def _count(self) -> None:
        self.requests += 1
        if self.requests >= _ENOUGH:
            self.enough.set()

    async def _chat(self, body: dict[str, Any]) -> Response:
        self._count()
        headers = {"x-sagepool-instance": "engine-1"}
        if self.refuses_chat:
            error = {"message": "no instance", "type": "server_error", "code": "unavailable"}
            return JSONResponse({"error": error}, status_code=503)
        if body.get("stream"):
            return StreamingResponse(
                self._stream(), headers=headers, media_type="text/event-stream"
            )
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "".join(WORDS)},
        }
        completion = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [choice],
        }
        return JSONResponse(completion, headers=headers)

    def _stream(self) -> Iterator[str]:
        for word in WORDS:
            yield _chunk(word, None)
        if not self.cuts_streams:
            yield _chunk(None, "stop")
            yield "data: [DONE]\n\n"

    async def _embeddings(self, body: dict[str, Any]) -> Response:
        self._count()
        given = body["input"]
        texts = [given] if isinstance(given, str) else given
        data = [
            {"object": "embedding", "index": i, "embedding": embed(text, DIMENSION)}
            for i, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        answer = {"object": "list", "model": "m", "data": data, "usage": usage}
        return JSONResponse(answer, headers={"x-sagepool-instance": "engine-2"})
