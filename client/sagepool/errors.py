"""Everything that a call can end in besides an answer.

SagepoolError
├── ConfigurationError        an argument, a variable or a missing package; nothing was sent
│   └── NothingFoundError     detection found no server for this kind of request
├── BadRequestError           400, 413, 415, 422: `param` and `code` say what is wrong
├── AuthenticationError       401: no key, or a wrong one
├── PermissionDeniedError     403: the key may not do that
├── NotFoundError             404: no such model (`models` lists the known) or no such route
├── RateLimitError            429: `retry_after` says when to come back
├── UnavailableError          502, 503, 529: no engine can answer now
├── ServerError               any other 5xx
├── APITimeoutError           nobody answered in time; 408 and 504 too
├── APIConnectionError        no connection, or it broke before the answer was whole
│   └── StreamBrokenError     a stream ended before its end; `text` is what had come
└── UnexpectedAnswerError     something answered, but not as the OpenAI API does
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sagepool.detection import Detection

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class SagepoolError(Exception):
    """A call failed; the message names the object and the next step.

    Args:
        message: for people.
        status: the HTTP status of the answer; None when there was none.
        code: what is wrong, for programs, as the server calls it.
        type: the server's class of errors.
        param: the field of the request that is wrong.
        request_id: finds the request in the logs of the router and the engine.
        headers: of the answer, names in lower case.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,  # as OpenAI's errors call it
        param: str | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.request_id = request_id
        self.headers = headers
        self.retry_after: float | None = None
        """Seconds after which the server wants to be asked again, if it said so."""


class ConfigurationError(SagepoolError, ValueError):
    """An argument or an environment variable is wrong, or a package is missing."""


class NothingFoundError(ConfigurationError):
    """Detection found no server for this kind of request.

    Args:
        message: for people; lists what was tried.
        detection: the same as values.
    """

    def __init__(self, message: str, detection: "Detection") -> None:
        super().__init__(message)
        self.detection = detection


class BadRequestError(SagepoolError):
    """The request has to be changed: `param` names the field and `code` the rule."""


class AuthenticationError(SagepoolError):
    """The server wants an API key, or another one."""


class PermissionDeniedError(SagepoolError):
    """The API key does not allow it."""


class NotFoundError(SagepoolError):
    """The server knows no such model, or no such route."""

    models: Sequence[str] = ()
    """What it serves instead, if it could be asked."""


class RateLimitError(SagepoolError):
    """Too much at once, for the server or for the API key."""


class UnavailableError(SagepoolError):
    """No engine can answer now."""


class ServerError(SagepoolError):
    """The server failed."""


class APITimeoutError(SagepoolError, TimeoutError):
    """There was no answer in time."""


class APIConnectionError(SagepoolError, ConnectionError):
    """There is no connection, or it broke before the answer was whole."""

    is_begun: bool = False
    """Part of the answer had come; False: the caller has seen nothing of it."""


class StreamBrokenError(APIConnectionError):
    """A stream ended before its end.

    Args:
        message: for people.
        text: what had come until then.
        status, code, type, param, request_id, headers: as in `SagepoolError`.
    """

    is_begun = True

    def __init__(
        self,
        message: str,
        *,
        text: str,
        code: str | None = None,
        type: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, code=code, type=type, request_id=request_id)
        self.text = text


class UnexpectedAnswerError(SagepoolError):
    """Something answers, but not as the OpenAI API does: is the address right?"""
