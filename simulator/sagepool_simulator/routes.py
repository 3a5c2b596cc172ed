"""Which request is answered by what, with the faults that are on."""

import asyncio
import itertools
import os
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec

from sagepool_simulator.adapters import Served
from sagepool_simulator.calls import Call, Route, Stalled
from sagepool_simulator.chat import TextRoutes
from sagepool_simulator.connection import Connection, Request, Work
from sagepool_simulator.engine import Engine
from sagepool_simulator.faults import Fault, FaultPlan
from sagepool_simulator.settings import Settings
from sagepool_simulator.text import tokenize
from sagepool_simulator.vectors import VectorRoutes
from sagepool_simulator.wire import (
    ApiError,
    TokenizeRequest,
    bad_request,
    check_model,
    encode,
    error_body,
    messages_text,
)

FAULTS_PATH: Final = "/simulator/faults"
"""GET lists the faults that are on, POST adds one (or a list), DELETE removes all."""

_VECTOR_PATHS: Final = frozenset(
    ("/v1/embeddings", "/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score")
)
_REFUSALS: Final = (ApiError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a request that cannot be served raises."""

_tokenize = msgspec.json.Decoder(TokenizeRequest).decode
_faults = msgspec.json.Decoder(Fault | list[Fault]).decode


class _Facts(msgspec.Struct):
    """What faults are chosen by."""

    model: str | None = None
    stream: bool | None = None


_facts = msgspec.json.Decoder(_Facts).decode


class Simulator:
    """Answers the requests of all connections; their Handler."""

    def __init__(
        self, settings: Settings, engine: Engine, faults: FaultPlan, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.connections: set[Connection] = set()
        self._is_unconnected = asyncio.Event()
        self._settings = settings
        self._engine = engine
        self._faults = faults
        self._loop = loop
        self._served = Served(settings, int(time.time()))
        process, numbers = secrets.token_hex(6), itertools.count(1)

        def new_id() -> str:
            return f"{process}{next(numbers):08x}"

        text = TextRoutes(settings, self._served, engine, loop, new_id, time.time)
        vectors = VectorRoutes(settings, self._served, engine, new_id, time.time)
        self._posts: dict[str, Route] = {
            "/v1/chat/completions": text.serve_chat,
            "/v1/completions": text.serve_completion,
            "/v1/embeddings": vectors.serve_embedding,
            "/tokenize": self._serve_tokenize,
            **dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank"), vectors.serve_rerank),
            **dict.fromkeys(("/score", "/v1/score"), vectors.serve_score),
        }
        if settings.is_lora_enabled:
            self._posts["/v1/load_lora_adapter"] = self._served.serve_load
            self._posts["/v1/unload_lora_adapter"] = self._served.serve_unload
        self._gets: dict[str, Callable[[Connection], None]] = {
            "/v1/models": self._list_models,
            "/health": self._show_health,
            "/ping": self._show_health,
            "/metrics": self._show_metrics,
            "/version": lambda connection: connection.reply(200, encode({"version": "simulator"})),
        }

    # A Handler.

    def opened(self, connection: Connection) -> None:
        """A client has connected."""
        self.connections.add(connection)
        self._is_unconnected.clear()

    def closed(self, connection: Connection) -> None:
        """A client has left."""
        self.connections.discard(connection)
        if not self.connections:
            self._is_unconnected.set()

    def handle(self, request: Request, connection: Connection) -> Work | None:
        """Answer a request, or refuse it."""
        try:
            return self._route(request, connection)
        except _REFUSALS as error:
            _refuse(connection, error)
            return None

    # The process' life.

    async def stop(self, limit_s: float) -> None:
        """Let the requests under way finish, for `limit_s` at most, and close everything."""
        for connection in tuple(self.connections):
            connection.stop()
        try:
            async with asyncio.timeout(limit_s):
                if self.connections:
                    await self._is_unconnected.wait()
        except TimeoutError:
            for connection in tuple(self.connections):
                connection.abort()

    def sweep(self) -> None:
        """Close the connections that have been idle for too long."""
        now = self._loop.time()
        for connection in tuple(self.connections):
            connection.sweep(now)

    # Requests.

    def _route(self, request: Request, connection: Connection) -> Work | None:
        path, method = request.path, request.method
        if request.is_too_large:
            request.keep_alive = False
            limit = self._settings.max_body_bytes
            raise ApiError(413, f"The body is larger than {limit} bytes.", "BadRequestError")
        route = self._posts.get(path)
        if route is not None:
            _require(method, "POST")
            call = Call(request.body, connection, None)
            if self._faults.faults:
                return self._serve_with_faults(path, route, call)
            return route(call)
        if path in self._gets:
            _require(method, "GET")
            self._gets[path](connection)
        elif path == FAULTS_PATH:
            self._command(request, connection)
        else:
            raise ApiError(404, "Not Found", "NotFoundError")
        return None

    def _serve_with_faults(self, path: str, route: Route, call: Call) -> Work | None:
        facts = _facts(call.body)
        fault = self._faults.draw(
            path,
            self._served.role_of(facts.model or ""),
            is_stream=bool(facts.stream),
            is_vector=path in _VECTOR_PATHS,
        )
        call.fault = fault
        match fault.kind if fault is not None else None:
            case "crash":
                os._exit(1)
            case "status":
                status = fault.status if fault is not None else 500
                raise ApiError(status, "fault on command", "InternalServerError")
            case "reset":
                call.connection.reset()
                return None
            case "stall":
                seconds = fault.seconds if fault is not None else 0.0
                return Stalled(self._loop, seconds, lambda: _guarded(route, call))
            case "close":
                call.connection.close_unannounced()
        return route(call)

    def _command(self, request: Request, connection: Connection) -> None:
        _require(request.method, "GET", "POST", "DELETE")
        plan = self._faults
        if request.method == "POST":
            given = _faults(request.body)
            plan.faults.extend(given if isinstance(given, list) else [given])
        elif request.method == "DELETE":
            plan.faults.clear()
        connection.reply(200, encode(plan.faults))

    def _serve_tokenize(self, call: Call) -> Work | None:
        asked = _tokenize(call.body)
        if asked.model is not None:
            check_model(self._served, asked.model, None)
        if asked.messages is not None:
            tokens = tokenize(messages_text(asked.messages))
        elif asked.prompt is not None:
            tokens = tokenize(asked.prompt)
        else:
            raise bad_request("prompt or messages is missing", "prompt")
        answer = {
            "count": len(tokens),
            "max_model_len": self._settings.max_model_len,
            "tokens": tokens,
            "token_strs": None,
        }
        call.connection.reply(200, encode(answer))
        return None

    def _list_models(self, connection: Connection) -> None:
        connection.reply(200, encode({"object": "list", "data": self._served.cards()}))

    def _show_health(self, connection: Connection) -> None:
        connection.reply(503 if self._faults.draw_ill_health() else 200, b"", b"text/plain")

    def _show_metrics(self, connection: Connection) -> None:
        engine = self._engine
        page = engine.metrics.render(
            self._settings.models[0][0],
            running=engine.running,
            waiting=engine.waiting,
            usage=engine.cache.usage,
            queried=engine.cache.queried_tokens,
            hits=engine.cache.hit_tokens,
        )
        content_type = b"text/plain; version=0.0.4; charset=utf-8"
        connection.reply(200, page.encode(), content_type)


def _guarded(route: Route, call: Call) -> Work | None:
    try:
        return route(call)
    except _REFUSALS as error:
        _refuse(call.connection, error)
        return None


def _refuse(connection: Connection, error: BaseException) -> None:
    if isinstance(error, ApiError):
        connection.reply(error.status, error.body, fields=error.fields)
        return
    is_json = isinstance(error, msgspec.ValidationError)
    message = str(error) if is_json else f"JSON decode error: {error}"
    connection.reply(400, error_body(400, message, "BadRequestError"))


def _require(method: str, *allowed: str) -> None:
    if method not in allowed:
        fields = f"allow: {', '.join(allowed)}\r\n".encode()
        raise ApiError(405, "Method Not Allowed", "MethodNotAllowedError", fields=fields)
