"""An API key at work: what it may do, what it has in flight and what it used.

Pure: the time is an argument. One object lives as long as the key's name is known, whatever is
reloaded meanwhile; requests under way hold it.
"""

import math
from collections.abc import Mapping
from typing import Final

from sagepool_router.auth.entries import KeyEntry
from sagepool_router.auth.errors import (
    ConcurrencyLimited,
    Forbidden,
    RateLimited,
    RejectionReason,
    RequestsLimited,
    TokensLimited,
)
from sagepool_router.auth.limits import Bucket, resized

_CONCURRENCY_WAIT_S: Final = 1.0
"""What a client is told to wait for another of its requests to end: nobody knows how long."""
_REQUEST_FIELDS: Final = (
    b"x-ratelimit-limit-requests: %d\r\n"
    b"x-ratelimit-remaining-requests: %d\r\n"
    b"x-ratelimit-reset-requests: %b\r\n"
)
_TOKEN_FIELDS: Final = _REQUEST_FIELDS.replace(b"requests", b"tokens")
_ALL_FIELDS: Final = _REQUEST_FIELDS + _TOKEN_FIELDS


class KeyUsage:
    """What a key did since it became known: counters, and what is under way."""

    __slots__ = (
        "cloud_cost",
        "completion_tokens",
        "gpu_seconds",
        "in_flight",
        "prompt_tokens",
        "rejected",
        "requests",
    )

    def __init__(self) -> None:
        self.requests = 0
        """Requests that were admitted."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.gpu_seconds = 0.0
        """Estimated."""
        self.cloud_cost = 0.0
        """What the provider took for it, in the currency of the pool's prices."""
        self.rejected: dict[RejectionReason, int] = {}
        """Requests that were not admitted, by the limit that they met."""
        self.in_flight = 0


class ApiKey:
    """One key with its live state. It does not know its secrets."""

    __slots__ = (
        "_max_concurrency",
        "_requests",
        "_tokens",
        "limits",
        "models",
        "name",
        "priority",
        "usage",
        "weight",
    )

    def __init__(self, entry: KeyEntry, share: float, now: float) -> None:
        self.name = entry.name
        self.usage = KeyUsage()
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self.configure(entry, share, now)

    def configure(self, entry: KeyEntry, share: float, now: float) -> None:
        """Take what an entry of the same name says; usage and what is in flight go on.

        Args:
            entry: what the key may do.
            share: the part of its limits that is this router's.
            now: seconds, monotonic.
        """
        self.priority = entry.priority
        """The priority of requests that name none; None: the usual one."""
        self.weight = entry.weight
        """Its part of the pool in relation to other keys."""
        self.models = entry.models
        """The models that it may use; None: all."""
        self.limits = entry.limits
        """Of the key as a whole; this router keeps to its share of them."""
        self.keep_to(share, now)

    def keep_to(self, share: float, now: float) -> None:
        """Keep to another share of the limits from now on."""
        own = self.limits.shared(share)
        self._requests = resized(self._requests, own.requests_per_minute, now)
        self._tokens = resized(self._tokens, own.tokens_per_minute, now)
        self._max_concurrency = math.inf if own.max_concurrency is None else own.max_concurrency

    def allows(self, model: str) -> bool:
        """Whether it may use `model`, a name as clients send it."""
        return self.models is None or model in self.models

    def admit(self, model: str, tokens: int, now: float) -> None:
        """Let a request in and charge it; `settle` must follow once.

        Args:
            model: as the client named it.
            tokens: what the request will cost, estimated.
            now: seconds, monotonic.

        Raises:
            Forbidden: the model is not among the key's.
            RateLimited: a limit is met; nothing is charged.
        """
        models = self.models
        if models is not None and model not in models:
            self._count_rejection("model")
            raise Forbidden(self.name, model, models)
        usage, requests, bucket = self.usage, self._requests, self._tokens
        if (
            usage.in_flight >= self._max_concurrency
            or (requests is not None and requests.wait_s(1, now))
            or (bucket is not None and bucket.wait_s(tokens, now))
        ):
            error = self._limit_met(tokens, now)
            self._count_rejection(error.reason)
            raise error
        if requests is not None:
            requests.take(1, now)
        if bucket is not None:
            bucket.take(tokens, now)
        usage.requests += 1
        usage.in_flight += 1

    def settle(
        self,
        estimated: int,
        actual_prompt: int | None,
        actual_completion: int | None,
        now: float,
    ) -> None:
        """A request that was admitted has ended.

        Args:
            estimated: what `admit` was given.
            actual_prompt: tokens that the engine reports; 0 if the request reached none.
            actual_completion: the same. If both are None, the estimate stays charged.
            now: seconds, monotonic.
        """
        usage = self.usage
        usage.in_flight -= 1
        if actual_prompt is None and actual_completion is None:
            return
        prompt, completion = actual_prompt or 0, actual_completion or 0
        usage.prompt_tokens += prompt
        usage.completion_tokens += completion
        if self._tokens is not None:
            self._tokens.take(prompt + completion - estimated, now)

    def answer_fields(self, now: float) -> bytes:
        """The lines `x-ratelimit-*` of an answer's head, for the limits that are set."""
        requests, tokens = self._requests, self._tokens
        if requests is None:
            return b"" if tokens is None else _TOKEN_FIELDS % _figures(tokens, now)
        if tokens is None:
            return _REQUEST_FIELDS % _figures(requests, now)
        return _ALL_FIELDS % (*_figures(requests, now), *_figures(tokens, now))

    def _limit_met(self, tokens: int, now: float) -> RateLimited:
        """Of the limits that are met, the one that takes longest to wait for."""
        limits, fields, begin = self.limits, self._error_fields(now), f"API key {self.name} is at"
        met: list[RateLimited] = []
        if self.usage.in_flight >= self._max_concurrency:
            rule = f"its limit of {limits.max_concurrency} requests at a time"
            met.append(ConcurrencyLimited(f"{begin} {rule}", _CONCURRENCY_WAIT_S, fields))
        if self._requests is not None and (wait_s := self._requests.wait_s(1, now)):
            rule = f"its limit of {limits.requests_per_minute:.0f} requests a minute"
            met.append(RequestsLimited(f"{begin} {rule}", wait_s, fields))
        if self._tokens is not None and (wait_s := self._tokens.wait_s(tokens, now)):
            rule = f"its limit of {limits.tokens_per_minute:.0f} tokens a minute"
            asked = f"this request: about {tokens}"
            met.append(TokensLimited(f"{begin} {rule} ({asked})", wait_s, fields))
        return max(met, key=lambda error: error.wait_s)

    def _error_fields(self, now: float) -> Mapping[str, str]:
        lines = self.answer_fields(now).decode().splitlines()
        return dict(line.split(": ", 1) for line in lines)

    def _count_rejection(self, reason: RejectionReason) -> None:
        rejected = self.usage.rejected
        rejected[reason] = rejected.get(reason, 0) + 1


def _figures(bucket: Bucket, now: float) -> tuple[int, int, bytes]:
    """The limit, what is left of it, and when it will be whole again."""
    ms = math.ceil(bucket.reset_s(now) * 1000)
    return (int(bucket.per_minute) or 1, bucket.remaining(now), _duration(ms))


def _duration(ms: int) -> bytes:
    """As OpenAI writes durations: 20ms, 8.640s, 6m0.000s."""
    if ms < 1000:
        return b"%dms" % ms
    if ms < 60_000:
        return b"%d.%03ds" % (ms // 1000, ms % 1000)
    return b"%dm%d.%03ds" % (ms // 60_000, ms // 1000 % 60, ms % 1000)
