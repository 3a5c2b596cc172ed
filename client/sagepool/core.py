"""What the blocking and the awaited client have in common: all but the waiting. Pure."""

from collections.abc import Mapping
from typing import Any, Final, Self, TypedDict, Unpack

from sagepool.answers import WireModels, read
from sagepool.calls import Call, result_of
from sagepool.catalog import models_of
from sagepool.control_plane import ControlPlane
from sagepool.detection import Detection
from sagepool.endpoints import Endpoint, Kind, read_base_url
from sagepool.errors import ConfigurationError, NotFoundError, NothingFoundError
from sagepool.parameters import read_timeout
from sagepool.results import Content, Result
from sagepool.transport import CLOSED, Exchange, Request

LIST_TIMEOUT_S: Final = 10.0
"""Limit of asking a server for its models."""
_DEFAULT_TIMEOUT_S: Final = 600.0
_DEFAULT_CONNECT_TIMEOUT_S: Final = 5.0
_DEFAULT_MAX_RETRIES: Final = 2


class ClientOptions(TypedDict, total=False):
    """What every way to make a client takes."""

    timeout: float
    """Seconds for a call, retries included; for a stream: to its beginning, and then between two
    of its parts. 600 if left out."""
    connect_timeout: float
    """Seconds for making a connection; 5 if left out."""
    max_retries: int
    """Attempts after the first, where that is safe; 2 if left out."""


class ClientCore:
    """Endpoints, options and what was detected.

    Args:
        endpoints: by kind; a kind that is absent cannot be asked for.
        options: time-outs and retries.
        detection: how the endpoints were found; None: they were given.
        control_plane: the router in this process that answers at the endpoints.

    Raises:
        ConfigurationError: an option is out of its range.
    """

    def __init__(
        self,
        endpoints: Mapping[Kind, Endpoint],
        options: ClientOptions,
        detection: Detection | None = None,
        control_plane: ControlPlane | None = None,
    ) -> None:
        unknown = set(options) - ClientOptions.__annotations__.keys()
        if unknown:
            raise ConfigurationError(
                f"{min(unknown)} is no option of a client; there are "
                + ", ".join(ClientOptions.__annotations__)
            )
        retries = options.get("max_retries", _DEFAULT_MAX_RETRIES)
        if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= 100:
            raise ConfigurationError(f"max_retries must be from 0 to 100, not {retries!r}")
        self._endpoints = endpoints
        self._timeout_s = read_timeout(options.get("timeout", _DEFAULT_TIMEOUT_S))
        self._connect_timeout_s = read_timeout(
            options.get("connect_timeout", _DEFAULT_CONNECT_TIMEOUT_S), "connect_timeout"
        )
        self._max_retries = retries
        self._default_models: dict[Kind, str] = {}
        self._control_plane = control_plane
        self._is_closed = False
        self.detection = detection
        """How `create_auto` found the servers; None for the other ways to make a client."""

    @classmethod
    def create(
        cls,
        base_url: str,
        *,
        api_key: str | None = None,
        model: str | None = None,
        embedding_base_url: str | None = None,
        embedding_api_key: str | None = None,
        embedding_model: str | None = None,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Use a server whose address is known; nothing is sent yet.

        Args:
            base_url: of an OpenAI-compatible server, with or without /v1.
            api_key: sent as bearer token.
            model: for chat and generate where they name none; None: the first that is listed.
            embedding_base_url: another server for embeddings; None: the same.
            embedding_api_key: its key; None: `api_key` where the server is the same.
            embedding_model: for embed where it names none; None: the first that is listed.
            options: time-outs and retries.

        Raises:
            ConfigurationError: an address or an option is wrong.
        """
        return cls(
            given_endpoints(
                base_url, api_key, model, embedding_base_url, embedding_api_key, embedding_model
            ),
            options,
        )

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def explain(self) -> str:
        """Which server answers which kind of request, and why that one: some lines for people."""
        if self.detection is not None:
            return str(self.detection)
        if self._control_plane is not None:
            return self._control_plane.explain()
        return "\n".join(
            f"{kind}: {endpoint.base_url}"
            + (f", model {endpoint.model}" if endpoint.model else "")
            + ": given"
            for kind, endpoint in self._endpoints.items()
        )

    def __repr__(self) -> str:
        """For people: the addresses."""
        told = ", ".join(f"{kind}={e.base_url}" for kind, e in self._endpoints.items())
        return f"{type(self).__name__}({told}{', closed' if self._is_closed else ''})"

    def _servers(self) -> set[Endpoint]:
        return {endpoint.server for endpoint in self._endpoints.values()}

    def _endpoint(self, kind: Kind) -> Endpoint:
        if self._is_closed:
            raise ConfigurationError(CLOSED)
        found = self._endpoints.get(kind)
        if found is not None:
            return found
        if self.detection is not None:
            raise NothingFoundError(self.detection.lack(kind), self.detection)
        raise ConfigurationError(f"the client has no server for {kind} requests")

    def _known_model(self, kind: Kind, model: str | None) -> str | None:
        return model or self._endpoint(kind).model or self._default_models.get(kind)

    def _learn_model(self, kind: Kind, exchange: Exchange) -> str:
        """Remember and return the model for requests that name none."""
        listed = read(WireModels, exchange.answer).data
        fitting = models_of(listed, kind)
        if not fitting:
            raise ConfigurationError(
                f"{self._endpoint(kind).base_url} lists no model for {kind} requests: say which "
                "with model="
            )
        self._default_models[kind] = fitting[0]
        return fitting[0]

    def _forget_model(self, kind: Kind) -> None:
        """The server may have been given another model meanwhile: ask it anew next time."""
        self._default_models.pop(kind, None)

    def _list_request(self) -> Request:
        timeout_s = min(LIST_TIMEOUT_S, self._timeout_s)
        return Request("GET", "/models", None, timeout_s, self._max_retries)

    def _request(self, call: Call[Any], model: str) -> Request:
        return Request(
            "POST",
            call.path,
            {"model": model, **call.fields},
            call.timeout_s or self._timeout_s,
            self._max_retries,
            call.headers,
        )


def name_models(error: NotFoundError, exchange: Exchange) -> None:
    """Tell in the error what the server serves instead."""
    error.models = tuple(model.id for model in read(WireModels, exchange.answer).data)
    if not any(model in error.message for model in error.models):
        error.message += f"; models: {', '.join(error.models) or 'none'}"
        error.args = (error.message,)


def read_exchange(call: Call[Content], request: Request, exchange: Exchange) -> Result[Content]:
    """The result of a call that was answered at once.

    Raises:
        UnexpectedAnswerError: the answer is not as the OpenAI API's.
    """
    return result_of(
        call,
        call.read(exchange.answer),
        model=request.model,
        request_id=request.request_id,
        headers=exchange.answer.headers,
        latency_ms=exchange.latency_ms,
        extra={"retries": exchange.retries},
    )


def given_endpoints(
    base_url: str,
    api_key: str | None,
    model: str | None,
    embedding_base_url: str | None,
    embedding_api_key: str | None,
    embedding_model: str | None,
) -> dict[Kind, Endpoint]:
    """The endpoints of a client whose addresses are given.

    Raises:
        ConfigurationError: an address is none.
    """
    llm = Endpoint(read_base_url(base_url, "base_url"), api_key, model)
    if embedding_base_url is None:
        embedding = Endpoint(llm.base_url, embedding_api_key or api_key, embedding_model)
    else:
        address = read_base_url(embedding_base_url, "embedding_base_url")
        embedding = Endpoint(address, embedding_api_key, embedding_model)
    return {"llm": llm, "embedding": embedding}
