"""Whether a failed attempt may be made again, and when. Pure.

Safe is what was not taken: a connection that was refused, and a server that says it did not take
the request (429, 502, 503, 529). A connection that broke before the answer began counts as safe,
too: often the server closed it while it was idle. The request may have reached an engine, which
then computes it twice, but the caller sees one answer. A time-out is not safe: the engine may
still be at work, and a second request doubles its load.
What the server says wins: `x-should-retry`, `retry-after-ms` and `retry-after`, as OpenAI's own
clients read them.
"""

import email.utils
import time
from collections.abc import Callable, Mapping
from typing import Final

from sagepool.errors import (
    APIConnectionError,
    APITimeoutError,
    RateLimitError,
    SagepoolError,
    UnavailableError,
)

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 8.0


def read_retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait, from retry-after-ms, or retry-after as seconds or as a date.

    Args:
        headers: of an answer, names in lower case.
        now: Unix time, for dates; None: the system's.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    given = headers.get("retry-after")
    seconds = _number(given)
    if seconds is not None or given is None:
        return seconds
    try:
        date = email.utils.parsedate_to_datetime(given)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - (time.time() if now is None else now))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def is_safe_to_repeat(error: SagepoolError) -> bool:
    """Whether the same request may be sent again."""
    if isinstance(error, APIConnectionError):
        return not error.is_begun
    wanted = error.headers.get("x-should-retry")
    if wanted in ("true", "false"):
        return wanted == "true"
    return isinstance(error, RateLimitError | UnavailableError)


class Attempts:
    """The attempts of one call and the time that it has.

    Args:
        max_retries: attempts after the first.
        timeout_s: all of them and the pauses between them.
        clock: seconds, monotonic.
        random: from 0 to 1; spreads callers who were refused together.
    """

    def __init__(
        self,
        max_retries: int,
        timeout_s: float,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._max_retries = max_retries
        self._timeout_s = timeout_s
        self._clock = clock
        self._random = random
        self._started = clock()
        self.retries = 0
        """Attempts after the first so far."""

    @property
    def elapsed_s(self) -> float:
        """Since the call began."""
        return self._clock() - self._started

    def remaining_s(self) -> float:
        """What is left of the call's time.

        Raises:
            APITimeoutError: nothing is.
        """
        left = self._timeout_s - self.elapsed_s
        if left <= 0:
            raise APITimeoutError(
                f"no answer within {self._timeout_s:g} s: give more with timeout=, or ask for less"
            )
        return left

    def pause_after(self, error: SagepoolError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            SagepoolError: `error` itself, when there is none: it is not safe, all were made, or
                the server wants a longer pause than the call has time.
        """
        if self.retries >= self._max_retries or not is_safe_to_repeat(error):
            raise error
        pause = error.retry_after
        if pause is None:
            longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self.retries)
            pause = longest * (0.5 + self._random() / 2)
        if self.elapsed_s + pause >= self._timeout_s:
            raise error
        self.retries += 1
        return pause
