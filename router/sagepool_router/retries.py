"""When a request may be tried again, and how often: rules and budget, no IO."""

from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

from sagepool_crds.pool import EngineType

Cause: TypeAlias = Literal["connect", "reset", "status", "error_frame"]
"""Why an attempt failed before the first byte of its answer went to the client."""

TOO_MANY_REQUESTS: Final = 429

_COMMON: Final = frozenset((500, 502, 503, 504))
_RETRYABLE: Final[dict[EngineType, frozenset[int]]] = {
    "vllm": _COMMON,
    "simulator": _COMMON,
    # 424 is a failed backend, 429 no free permit: another instance may well answer
    "tei": frozenset((424, TOO_MANY_REQUESTS, 502, 503, 504)),
}

MAX_RETRIES: Final = 1
MAX_CONNECT_RETRIES: Final = 2

_RETRY_AFTER: Final = b"retry-after: "
_LONGEST_PAUSE_S: Final = 60.0


def is_retryable(engine: EngineType, status: int) -> bool:
    """Whether this status of this engine says that another instance may do better.

    vLLM answers 500 when its engine core is dead or shutting down. A client's own mistake is
    never retryable.
    """
    return status in _RETRYABLE[engine]


def allows_retry(cause: Cause, retries: int) -> bool:
    """Whether a request that was retried `retries` times may be retried once more."""
    return retries < (MAX_CONNECT_RETRIES if cause == "connect" else MAX_RETRIES)


def read_retry_after(fields: Iterable[bytes]) -> float:
    """Seconds that an engine wants to be left alone for, at most a minute; 0: it does not say.

    Args:
        fields: header fields of its answer as lines, names in lower case.
    """
    for field in fields:
        if field.startswith(_RETRY_AFTER):
            seconds = field[len(_RETRY_AFTER) :].strip()
            return min(_LONGEST_PAUSE_S, float(seconds)) if seconds.isdigit() else 0.0
    return 0.0


class RetryBudget:
    """A bucket of retries: every request adds a tenth, every second adds three.

    It keeps retries from doubling the load of a pool that is failing because of its load
    (Finagle's retry budgets). It starts full, and the bucket is deep enough for the requests
    that one dying engine takes with it.
    """

    __slots__ = ("_balance", "_clock", "_filled_at", "_seen", "requests")

    PER_REQUEST: Final = 0.1
    PER_SECOND: Final = 3.0
    DEPTH: Final = 100.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._balance = self.DEPTH
        self._filled_at = clock()
        self.requests = 0
        """Requests that came in; who takes them counts them here."""
        self._seen = 0
        """Those that have filled the bucket already."""

    def withdraw(self) -> bool:
        """Take one retry; False when there is none."""
        now = self._clock()
        refilled = (now - self._filled_at) * self.PER_SECOND
        refilled += (self.requests - self._seen) * self.PER_REQUEST
        self._balance = min(self.DEPTH, self._balance + refilled)
        self._filled_at, self._seen = now, self.requests
        if self._balance < 1:
            return False
        self._balance -= 1
        return True
