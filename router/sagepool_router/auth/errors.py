"""Why a request is refused before it is routed. Messages and headers never hold a secret.

RouterError
├── Unauthorized            401 invalid_request_error
├── Forbidden               403 invalid_request_error
└── RateLimited             429
    ├── RequestsLimited     type requests
    ├── TokensLimited       type tokens
    └── ConcurrencyLimited  type concurrency
"""

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal, TypeAlias

from sagepool_router.errors import RouterError

RejectionReason: TypeAlias = Literal["model", "requests", "tokens", "concurrency"]
"""Why a key's request was not admitted."""

_LISTED_MODELS = 50


class Unauthorized(RouterError):
    """The request bears no key, or none that is known."""

    default_status = 401
    type = "invalid_request_error"


def missing_key() -> Unauthorized:
    """There is no key in the request."""
    return Unauthorized(
        "no API key: send it as `authorization: Bearer KEY`",
        "missing_api_key",
        headers={"www-authenticate": "Bearer"},
    )


def invalid_key() -> Unauthorized:
    """The key in the request is nobody's; which one it was is not repeated."""
    return Unauthorized(
        "the API key is not valid here: check that it is whole and has not been withdrawn",
        "invalid_api_key",
        headers={"www-authenticate": 'Bearer error="invalid_token"'},
    )


class Forbidden(RouterError):
    """The key may not use this model."""

    default_status = 403
    type = "invalid_request_error"

    def __init__(self, key: str, model: str, allowed: Iterable[str]) -> None:
        names = sorted(allowed)
        listed = ", ".join(names[:_LISTED_MODELS])
        more = len(names) - _LISTED_MODELS
        if more > 0:
            listed += f" and {more} more"
        super().__init__(
            f"API key {key} may not use model {model[:200]!r}; its models: {listed}",
            "model_not_allowed",
            param="model",
        )


class RateLimited(RouterError):
    """The key is at one of its limits.

    Args:
        message: names the key and the limit.
        wait_s: when it is worth trying again, from now.
        fields: further response header fields.
    """

    default_status = 429
    type = "rate_limit_error"
    reason: ClassVar[RejectionReason]

    def __init__(
        self, message: str, wait_s: float, fields: Mapping[str, str] | None = None
    ) -> None:
        # Rounded up, never down: whoever comes at the told moment is admitted.
        super().__init__(
            f"{message}; try again in {math.ceil(wait_s * 1000)} ms",
            "rate_limit_exceeded",
            headers={
                "retry-after": str(math.ceil(wait_s)),
                "retry-after-ms": str(math.ceil(wait_s * 1000)),
                **(fields or {}),
            },
        )
        self.wait_s = wait_s


class RequestsLimited(RateLimited):
    """Too many requests in the last minute."""

    type = "requests"
    reason = "requests"


class TokensLimited(RateLimited):
    """Too many tokens in the last minute."""

    type = "tokens"
    reason = "tokens"


class ConcurrencyLimited(RateLimited):
    """Too many requests at a time."""

    type = "concurrency"
    reason = "concurrency"
