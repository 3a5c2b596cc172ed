"""The rim: HTTP by httpx, blocking and awaited; its failures become errors of this package."""

import asyncio
import logging
import random
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, TypeVar

import httpx

from sagepool.answers import Answer, error_of
from sagepool.connections import Connections
from sagepool.endpoints import Endpoint
from sagepool.errors import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    SagepoolError,
    UnexpectedAnswerError,
)
from sagepool.retries import Attempts

_logger: Final = logging.getLogger(__name__)

_T = TypeVar("_T")

CLOSED: Final = "the client is closed: make a new one"
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=100)
"""The server limits what runs at once; a limit here would only hide its queue from it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    """Below the base URL."""
    body: Mapping[str, Any] | None
    timeout_s: float
    """For all attempts; for a stream: to its head, and then between two of its parts."""
    max_retries: int
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def is_stream(self) -> bool:
        """Whether its answer comes piece by piece."""
        return bool((self.body or {}).get("stream"))

    @property
    def model(self) -> str:
        """The model that is asked for."""
        return "" if self.body is None else str(self.body.get("model", ""))


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer and how it came."""

    answer: Answer
    latency_ms: float
    retries: int


@dataclass(frozen=True, slots=True)
class OpenStream:
    """An answer of status 200 whose body is still to be read, and how it came."""

    response: httpx.Response
    attempts: Attempts

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the answer, names in lower case."""
        return _lower(self.response.headers)


class Link:
    """Blocking connections to one endpoint.

    Args:
        endpoint: where.
        connect_timeout_s: limit of one connection's making.
    """

    def __init__(self, endpoint: Endpoint, connect_timeout_s: float) -> None:
        self.endpoint = endpoint
        self._connect_timeout_s = connect_timeout_s
        self._connections = Connections()
        uds = endpoint.uds
        headers = _headers(endpoint)
        with _usable_environment():
            self._client = httpx.Client(
                headers=headers,
                limits=_LIMITS,
                trust_env=endpoint.uses_proxy,
                verify=_verification(endpoint),
                transport=None if uds is None else httpx.HTTPTransport(uds=str(uds)),
            )

    def send(self, request: Request) -> Exchange:
        """Send and read the whole answer, again where that is safe.

        Raises:
            SagepoolError: there is none, or it is an error.
        """
        attempts = _attempts(request)

        def attempt() -> Answer:
            response = self._open(request, attempts)
            return self._read(response, request, attempts)

        answer = self._repeat(attempt, attempts, request)
        return Exchange(answer, attempts.elapsed_s * 1000, attempts.retries)

    def open(self, request: Request) -> OpenStream:
        """Send and read the head of the answer, again where that is safe.

        Raises:
            SagepoolError: there is none, or it is an error.
        """
        attempts = _attempts(request)
        response = self._repeat(lambda: self._open(request, attempts), attempts, request)
        return OpenStream(response, attempts)

    def close(self) -> None:
        """Close all connections; calls under way end with the error of a closed client."""
        self._connections.end()
        self._client.close()

    def _repeat(self, attempt: Callable[[], _T], attempts: Attempts, request: Request) -> _T:
        while True:
            try:
                return attempt()
            except Exception as error:
                if self._connections.is_over:
                    raise ConfigurationError(CLOSED) from error
                if not isinstance(error, SagepoolError):
                    raise
                pause = _pause_after(error, attempts, request)
            self._connections.pause(pause)
            if self._connections.is_over:  # its client may not be closed yet
                raise ConfigurationError(CLOSED)

    def _open(self, request: Request, attempts: Attempts) -> httpx.Response:
        limit_s = attempts.remaining_s()
        built = _build(self._client, self.endpoint, request, limit_s, self._connect_timeout_s)
        built.extensions["trace"] = self._connections.note
        with translated(built, request):
            response = self._client.send(built, stream=True)
        if response.status_code == 200:
            return response
        raise error_of(self._read(response, request, attempts), request.request_id)

    def _read(self, response: httpx.Response, request: Request, attempts: Attempts) -> Answer:
        pieces = []
        with translated(response.request, request, response):
            try:
                for piece in response.iter_bytes():
                    pieces.append(piece)
                    attempts.remaining_s()  # httpx limits the wait for each piece, not for all
            finally:
                response.close()
        return _answer(response, b"".join(pieces))


class AsyncLink:
    """`Link`, awaited.

    Args:
        endpoint: where.
        connect_timeout_s: limit of one connection's making.
    """

    def __init__(self, endpoint: Endpoint, connect_timeout_s: float) -> None:
        self.endpoint = endpoint
        self._connect_timeout_s = connect_timeout_s
        self._over = asyncio.Event()
        uds = endpoint.uds
        headers = _headers(endpoint)
        with _usable_environment():
            self._client = httpx.AsyncClient(
                headers=headers,
                limits=_LIMITS,
                trust_env=endpoint.uses_proxy,
                verify=_verification(endpoint),
                transport=None if uds is None else httpx.AsyncHTTPTransport(uds=str(uds)),
            )

    async def send(self, request: Request) -> Exchange:
        """Send and read the whole answer, again where that is safe.

        Raises:
            SagepoolError: there is none, or it is an error.
        """
        attempts = _attempts(request)

        async def attempt() -> Answer:
            response = await self._open(request, attempts)
            return await self._read(response, request, attempts)

        answer = await self._repeat(attempt, attempts, request)
        return Exchange(answer, attempts.elapsed_s * 1000, attempts.retries)

    async def open(self, request: Request) -> OpenStream:
        """Send and read the head of the answer, again where that is safe.

        Raises:
            SagepoolError: there is none, or it is an error.
        """
        attempts = _attempts(request)
        response = await self._repeat(lambda: self._open(request, attempts), attempts, request)
        return OpenStream(response, attempts)

    async def close(self) -> None:
        """Close all connections; calls under way end with the error of a closed client."""
        self._over.set()
        await self._client.aclose()

    async def _repeat(
        self, attempt: Callable[[], Awaitable[_T]], attempts: Attempts, request: Request
    ) -> _T:
        while True:
            try:
                return await attempt()
            except Exception as error:
                if self._over.is_set():
                    raise ConfigurationError(CLOSED) from error
                if not isinstance(error, SagepoolError):
                    raise
                pause = _pause_after(error, attempts, request)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._over.wait()

    async def _open(self, request: Request, attempts: Attempts) -> httpx.Response:
        limit_s = attempts.remaining_s()
        built = _build(self._client, self.endpoint, request, limit_s, self._connect_timeout_s)
        with translated(built, request):
            response = await self._client.send(built, stream=True)
        if response.status_code == 200:
            return response
        raise error_of(await self._read(response, request, attempts), request.request_id)

    async def _read(self, response: httpx.Response, request: Request, attempts: Attempts) -> Answer:
        pieces = []
        with translated(response.request, request, response):
            try:
                async for piece in response.aiter_bytes():
                    pieces.append(piece)
                    attempts.remaining_s()
            finally:
                await response.aclose()
        return _answer(response, b"".join(pieces))


@contextmanager
def translated(
    sent: httpx.Request, request: Request, response: httpx.Response | None = None
) -> Iterator[None]:
    """Turn httpx's errors into this package's.

    Args:
        sent: as httpx knows it.
        request: as this package does.
        response: the answer whose body is read; None before its head has come.
    """
    host, id_ = str(sent.url.copy_with(path="/")).rstrip("/"), request.request_id
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise APIConnectionError(
            f"cannot reach {host} ({_words(error)}): is the server up and the address right?",
            request_id=id_,
        ) from error
    except httpx.TimeoutException as error:
        raise APITimeoutError(
            f"{host} did not answer within {request.timeout_s:g} s: give more with timeout=, or "
            "ask for less",
            request_id=id_,
        ) from error
    except httpx.DecodingError as error:
        raise UnexpectedAnswerError(
            f"the answer of {host} cannot be decoded: {_words(error)}", request_id=id_
        ) from error
    except httpx.HTTPError as error:
        broken = APIConnectionError(
            f"the connection to {host} broke ({_words(error)}) "
            + ("before the answer began" if response is None else "in the middle of the answer"),
            request_id=id_,
        )
        broken.is_begun = response is not None
        raise broken from error


@contextmanager
def _usable_environment() -> Iterator[None]:
    """Say which part of the environment httpx cannot use."""
    try:
        yield
    except (ImportError, ValueError, OSError) as error:
        raise ConfigurationError(
            "a proxy (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) or the certificates (SSL_CERT_FILE, "
            f"SSL_CERT_DIR) of the environment cannot be used: {_words(error)}"
        ) from error


def _pause_after(error: SagepoolError, attempts: Attempts, request: Request) -> float:
    pause = attempts.pause_after(error)
    _logger.info(
        "request is sent again",
        extra={
            "request_id": request.request_id,
            "retry": attempts.retries,
            "pause_s": pause,
            "error": type(error).__name__,
            "status": error.status,
        },
    )
    return pause


def _attempts(request: Request) -> Attempts:
    return Attempts(request.max_retries, request.timeout_s, time.monotonic, random.random)


def _build(
    client: httpx.Client | httpx.AsyncClient,
    endpoint: Endpoint,
    request: Request,
    limit_s: float,
    connect_s: float,
) -> httpx.Request:
    if client.is_closed:  # by another thread or task, while this one paused before a retry
        raise ConfigurationError(CLOSED)
    try:
        return client.build_request(
            request.method,
            endpoint.base_url + request.path,
            json=request.body,
            headers={"x-request-id": request.request_id, **request.headers},
            # One figure is for the head and for each part of a stream; a part shall have it whole.
            timeout=httpx.Timeout(
                limit_s,
                connect=min(connect_s, limit_s),
                read=request.timeout_s if request.is_stream else limit_s,
            ),
        )
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the request cannot be written as JSON: {error}") from None


def _headers(endpoint: Endpoint) -> dict[str, str]:
    agent = f"sagepool/{version('sagepool')}"
    return {"user-agent": agent, "accept": "*/*", **endpoint.authorization}


def _verification(endpoint: Endpoint) -> ssl.SSLContext | bool:
    # Reading the certificate authorities takes 20 ms, which plain http need not pay.
    return endpoint.base_url.startswith("https://")


def _answer(response: httpx.Response, body: bytes) -> Answer:
    return Answer(response.status_code, _lower(response.headers), body, str(response.url))


def _lower(headers: httpx.Headers) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
