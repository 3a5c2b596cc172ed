"""Faults on command: what an engine does wrong, to whom, and how often."""

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

from sagepool_simulator.settings import Role

Kind: TypeAlias = Literal[
    "status",  # answer with `status` instead
    "stall",  # say nothing for `seconds`, then go on
    "reset",  # break the connection before the head
    "stall_stream",  # say nothing for `seconds` after `after_chunks` chunks, then go on
    "reset_stream",  # break the connection after `after_chunks` chunks
    "error_frame",  # begin a stream with an error of `status`, as vLLM does
    "wrong_dimension",  # embeddings are one number longer
    "not_normalised",  # embeddings are of length two
    "unhealthy",  # the health check answers 503
    "close",  # close the connection after the answer without having said so
    "crash",  # the process ends at once with status 1
]

_STREAM_KINDS: Final = frozenset(("stall_stream", "reset_stream", "error_frame"))
_VECTOR_KINDS: Final = frozenset(("wrong_dimension", "not_normalised"))


class Fault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One fault; it is gone after `count` requests (health checks for `unhealthy`)."""

    kind: Kind
    share: float = 1.0
    """Part of the requests that it hits."""
    count: int | None = None
    """Requests that it still hits; None: no end."""
    role: Role | None = None
    """Only requests to models of this role."""
    path: str | None = None
    """Only requests to this path."""
    status: int = 500
    """Of `status` and `error_frame`."""
    seconds: float = 1.0
    """Of `stall` and `stall_stream`."""
    after_chunks: int = 1
    """Of `stall_stream` and `reset_stream`; a shorter stream is left alone."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense. Raises ValueError."""
        if not 0 < self.share <= 1:
            raise ValueError("share must be above 0 and at most 1")
        if self.count is not None and self.count < 1:
            raise ValueError("count must be at least 1")
        if not 400 <= self.status <= 599:
            raise ValueError("status must be from 400 to 599")
        if not 0 <= self.seconds <= 3600:
            raise ValueError("seconds must be from 0 to 3600")
        if not 0 <= self.after_chunks <= 1_000_000:
            raise ValueError("after_chunks must be from 0 to 1000000")


class FaultPlan:
    """The faults that are on.

    Args:
        random: uniform in [0, 1).
        faults: those from the start on.
    """

    def __init__(self, random: Callable[[], float], faults: tuple[Fault, ...] = ()) -> None:
        self._random = random
        self.faults: list[Fault] = list(faults)

    def draw(
        self, path: str, role: Role | None, *, is_stream: bool, is_vector: bool
    ) -> Fault | None:
        """The fault that this request meets, if any; its count goes down.

        A fault of streams or vectors meets, and counts, only requests that it can change.
        """
        for fault in self.faults:
            if fault.role not in (None, role) or fault.path not in (None, path):
                continue
            if fault.kind == "unhealthy":
                continue
            if fault.kind in _STREAM_KINDS and not is_stream:
                continue
            if fault.kind in _VECTOR_KINDS and not is_vector:
                continue
            if self._hits(fault):
                return fault
        return None

    def draw_ill_health(self) -> bool:
        """Whether this health check fails on command; the count of the fault goes down."""
        ill = [fault for fault in self.faults if fault.kind == "unhealthy"]
        return any(self._hits(fault) for fault in ill)

    def _hits(self, fault: Fault) -> bool:
        if fault.share < 1 and self._random() >= fault.share:
            return False
        if fault.count is not None:
            fault.count -= 1
            if fault.count == 0:
                self.faults.remove(fault)
        return True
