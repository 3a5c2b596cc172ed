"""When engines that are to stop have answered everything that they were asked. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sagepool_sidecar.page import Load

Failure: TypeAlias = Literal["refused", "silent"]
"""Why there are no figures: nothing listens, or no usable answer comes in time."""
Outcome: TypeAlias = Literal["idle", "gone", "time is over"]


@dataclass(frozen=True, slots=True)
class DrainLimits:
    """How long a drain waits for what, in seconds."""

    total_s: float = 300.0
    """After so long the engine may be stopped whatever it does."""
    quiet_s: float = 5.0
    """It has to be idle for so long on end: its metrics miss a request that is just being read or
    whose last bytes are just being sent, and a router may send one more before it has heard that
    the pod is leaving."""
    refused_s: float = 3.0
    """Nothing listens for so long: the process is gone."""
    silent_s: float = 30.0
    """No usable answer for so long. An engine that reads long prompts answers late."""


class Drain:
    """Follows one engine from the moment at which it is asked to leave.

    Args:
        limits: how long to wait.
        now: seconds, on the clock of all later calls.
    """

    def __init__(self, limits: DrainLimits, now: float) -> None:
        self._limits = limits
        self._began_at = now
        self._active_at = now
        """When it last had something to do."""
        self._answered_at = now
        self._refused_since: float | None = None
        self._progress: float | None = None

    def note(self, answer: Load | Failure, now: float) -> None:
        """Take in what the engine has just said."""
        if isinstance(answer, str):
            self._note_failure(answer, now)
            return
        self._refused_since = None
        self._answered_at = now
        if not answer.is_idle or self._progress not in (None, answer.progress):
            self._active_at = now
        self._progress = answer.progress

    def outcome(self, now: float) -> Outcome | None:
        """Why the engine may be stopped; None while it may not."""
        limits = self._limits
        if now - self._began_at >= limits.total_s:
            return "time is over"
        refused = self._refused_since
        if refused is not None and now - refused >= limits.refused_s:
            return "gone"
        if now - self._answered_at >= limits.silent_s:
            return "gone"
        if self._answered_at >= self._active_at + limits.quiet_s:
            return "idle"
        return None

    def _note_failure(self, failure: Failure, now: float) -> None:
        if failure == "silent":
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now


def joint_outcome(drains: Iterable[Drain], now: float) -> Outcome | None:
    """Why all of a pod's engines may be stopped; None while one of them may not.

    They are stopped together, so one that is idle goes on being asked while another is busy: what
    comes to it meanwhile has to be finished too. One that is gone keeps nobody from finishing.
    """
    outcomes = [drain.outcome(now) for drain in drains]
    if "time is over" in outcomes:
        return "time is over"
    if None in outcomes:
        return None
    return "gone" if "gone" in outcomes else "idle"
