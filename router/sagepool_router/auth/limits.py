"""Limits per minute as token buckets with an exact wait. Pure: the time is an argument."""

import math
from dataclasses import dataclass
from typing import Final

_MINUTE_S: Final = 60.0
_ROUNDING_S: Final = 1e-6
"""Added to every wait, so that no rounding makes the told moment come too early."""


@dataclass(frozen=True)
class KeyLimits:
    """What a key may use; None: without a limit."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Prompt and completion together."""
    max_concurrency: int | None = None

    def shared(self, share: float) -> "KeyLimits":
        """The part of one of several routers.

        Args:
            share: one over the number of routers. One request at a time is always left.
        """
        requests, tokens, concurrency = (
            self.requests_per_minute,
            self.tokens_per_minute,
            self.max_concurrency,
        )
        return KeyLimits(
            None if requests is None else requests * share,
            None if tokens is None else tokens * share,
            # 98 * (1 / 49) is a little less than 2
            None if concurrency is None else max(1, math.floor(concurrency * share + 1e-9)),
        )


class Bucket:
    """A bucket that holds one minute's worth and is refilled evenly.

    It is kept as the moment at which it will be full again (the generic cell rate algorithm,
    ITU-T I.371, in its virtual scheduling form): one number, no upkeep.

    What is taken in any span of T seconds, up to the last admission in it, is at most

        max(per_minute, largest single cost) + per_minute * T / 60

    less what was given back: an admission at `e` leaves the bucket full again at most
    max(60, cost * 60 / per_minute) seconds after `e`, at a span's begin `b` that moment lies not
    before `b`, and each unit taken moves it by 60 / per_minute. In any minute that is at most
    twice the limit, as long as no single cost is above it. A cost above it is admitted when the
    bucket is full and paid off afterwards: it would never be otherwise.
    """

    __slots__ = ("_full_at", "_unit_s", "per_minute")

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self._unit_s = _MINUTE_S / per_minute
        """In what time one unit is refilled."""
        self._full_at = -math.inf

    def wait_s(self, cost: float, now: float) -> float:
        """How long until `cost` can be taken; 0 if it can now."""
        room_s = _MINUTE_S - cost * self._unit_s
        wait_s = self._full_at - now - (room_s if room_s > 0.0 else 0.0)
        return wait_s + _ROUNDING_S if wait_s > 0.0 else 0.0

    def take(self, cost: float, now: float) -> None:
        """Take `cost`, whether or not it is there; less than 0 gives back."""
        full_at = self._full_at
        self._full_at = (full_at if full_at > now else now) + cost * self._unit_s

    def remaining(self, now: float) -> int:
        """What could be taken now."""
        used_s = self._full_at - now
        left = self.per_minute if used_s <= 0.0 else self.per_minute - used_s / self._unit_s
        # What is left after whole costs is whole: 59.99999999 is 60.
        return int(left + 1e-6) if left > 0.0 else 0

    def reset_s(self, now: float) -> float:
        """How long until it is full again."""
        used_s = self._full_at - now
        return used_s if used_s > 0.0 else 0.0

    def resize(self, per_minute: float, now: float) -> None:
        """Go on with another limit: what was used stays used."""
        used = self.reset_s(now) / self._unit_s
        self.per_minute = per_minute
        self._unit_s = _MINUTE_S / per_minute
        self._full_at = now + used * self._unit_s


def resized(bucket: Bucket | None, per_minute: float | None, now: float) -> Bucket | None:
    """`bucket` for another limit: made where there was none, dropped where there is none now."""
    if per_minute is None:
        return None
    if bucket is None:
        return Bucket(per_minute)
    if bucket.per_minute != per_minute:
        bucket.resize(per_minute, now)
    return bucket
