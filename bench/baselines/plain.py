"""The proxy as it is usually written: a FastAPI route and an httpx client.

Nothing in it is slow on purpose: one client for all requests, no limit on connections, the body
passed on as bytes, no validation, uvicorn with uvloop and httptools, no access log.

Run: python plain.py PORT ENGINE_PORT
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

HOST = "127.0.0.1"


def create_app(engine_port: int) -> FastAPI:
    """Forward the inference routes to the engine on this port."""
    client = httpx.AsyncClient(
        base_url=f"http://{HOST}:{engine_port}",
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        timeout=None,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/chat/completions")
    @app.post("/v1/completions")
    @app.post("/v1/embeddings")
    async def forward(request: Request) -> Response:
        upstream = client.build_request(
            "POST",
            request.url.path,
            content=await request.body(),
            headers={"content-type": "application/json"},
        )
        answer = await client.send(upstream, stream=True)
        content_type = answer.headers.get("content-type", "")
        if content_type.startswith("text/event-stream"):
            return StreamingResponse(
                answer.aiter_raw(),
                answer.status_code,
                media_type=content_type,
                background=BackgroundTask(answer.aclose),
            )
        return Response(await answer.aread(), answer.status_code, media_type=content_type)

    return app


def main(port: int, engine_port: int) -> None:
    """Serve until told to stop."""
    uvicorn.run(
        create_app(engine_port),
        host=HOST,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
