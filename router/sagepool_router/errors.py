"""Everything the router answers that is not an answer of an engine.

RouterError                 500 server_error
├── InvalidRequest          400 invalid_request_error (and 405, 408, 411, 413, 415, 431, 501, 505)
├── UnknownModel            404
├── Overloaded              429 rate_limit_error
├── Unavailable             503 server_error
├── EngineFailed            502 upstream_error
└── TimedOut                504 timeout_error
"""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

_LISTED_MODELS = 50


class RouterError(Exception):
    """A refusal or a failure with its HTTP status and its OpenAI-shaped body.

    Args:
        message: for people; names the object and the next step.
        code: for programs.
        param: the field of the request that is wrong.
        status: the HTTP status; the class has a default.
        headers: response header fields beside the content's own.
    """

    default_status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"

    def __init__(
        self,
        message: str,
        code: str,
        *,
        param: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.status = self.default_status if status is None else status
        self.headers: Mapping[str, str] = headers or {}

    def body(self) -> bytes:
        """The error as the OpenAI API writes it."""
        return msgspec.json.encode(
            {
                "error": {
                    "message": self.message,
                    "type": self.type,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )


class InvalidRequest(RouterError):
    """The client has to change its request."""

    default_status = 400
    type = "invalid_request_error"


class UnknownModel(RouterError):
    """No group of the pool and no instance serves a model of this name."""

    default_status = 404
    type = "invalid_request_error"

    def __init__(self, model: str, known: Iterable[str]) -> None:
        names = sorted(known)
        listed = ", ".join(names[:_LISTED_MODELS]) or "none yet"
        more = len(names) - _LISTED_MODELS
        if more > 0:
            listed += f" and {more} more (GET /v1/models lists all)"
        super().__init__(
            f"model {model[:200]!r} does not exist; models: {listed}",
            "model_not_found",
            param="model",
        )


class Overloaded(RouterError):
    """Every instance that could answer is at its limit."""

    default_status = 429
    type = "rate_limit_error"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, "overloaded", headers=_retry_after(retry_after_s))


class Unavailable(RouterError):
    """Nothing is there to answer, or this router cannot take more."""

    default_status = 503

    def __init__(
        self, message: str, code: str, *, retry_after_s: float, reason: str | None = None
    ) -> None:
        headers = dict(_retry_after(retry_after_s))
        if reason:
            headers["x-sagepool-reason"] = header_text(reason)
        super().__init__(message, code, headers=headers)


class EngineFailed(RouterError):
    """An engine could not be reached or broke its answer off."""

    default_status = 502
    type = "upstream_error"

    def __init__(self, message: str, code: str = "engine_failed") -> None:
        super().__init__(message, code)


class TimedOut(RouterError):
    """The engine was silent for too long, or the deadline has passed."""

    default_status = 504
    type = "timeout_error"

    def __init__(self, message: str, code: str = "engine_timeout") -> None:
        # OpenAI's clients would try again, and nobody waits for that any more
        is_over = code == "deadline_exceeded"
        super().__init__(message, code, headers={"x-should-retry": "false"} if is_over else {})


def header_text(text: str) -> str:
    """`text` as it may stand in a header field: printable ASCII, at most 512 characters."""
    return "".join(c if " " <= c <= "~" else " " for c in text[:512]).strip()


def _retry_after(seconds: float) -> Mapping[str, str]:
    """Both forms: whole seconds for everybody, milliseconds as OpenAI's clients read them."""
    return {
        "retry-after": str(max(1, math.ceil(seconds))),
        "retry-after-ms": str(max(1, round(seconds * 1000))),
    }
