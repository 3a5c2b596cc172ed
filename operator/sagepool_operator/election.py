"""Which of several operators works: a Lease, and what may be concluded from it. Pure.

    candidate ── the lease is free, or unchanged for as long as it was promised ──► leader
        ▲                                                                              │
        └── another one is in it, or no renewal has succeeded until the deadline ◄─────┘

Only durations on one machine's clock are compared, never the clocks of two machines. A leader
counts from before it sent its last renewal, and is sure of its lead until the renewal deadline. A
candidate counts from when it saw the last change, and waits for the whole lease. So the leader
has stopped before the candidate starts, with the difference of the two as a margin; all that is
asked of the clocks is that they run about equally fast.

The scheme is that of client-go's `tools/leaderelection`.
"""

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sagepool_kube.api import LEASES, Object


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a lease lasts, and what follows from it."""

    lease_s: int = 10
    """What a leader promises: nobody takes the lease before it has stood unchanged so long."""

    @property
    def deadline_s(self) -> float:
        """A leader whose last successful renewal was sent so long ago stops working."""
        return 0.7 * self.lease_s

    @property
    def renew_s(self) -> float:
        """Between two renewals."""
        return 0.2 * self.lease_s

    @property
    def retry_s(self) -> float:
        """After a call that failed."""
        return 0.05 * self.lease_s

    @property
    def call_s(self) -> float:
        """Limit of one call: two of them fit before the deadline."""
        return self.deadline_s / 2


@dataclass(frozen=True, slots=True)
class Claim:
    """What the Lease says."""

    holder: str
    """Empty when the last one has given it back."""
    lease_s: int
    acquired_at: datetime | None = None
    renewed_at: datetime | None = None
    transitions: int = 0
    """How often the holder has changed."""
    version: str = field(default="", compare=False)
    """The object's resourceVersion: an edit that changes nothing above is no sign of life."""


def read_claim(lease: Object) -> Claim:
    """Read a Lease; whatever it lacks counts as never set."""
    spec = lease.get("spec") or {}
    return Claim(
        holder=spec.get("holderIdentity") or "",
        lease_s=int(spec.get("leaseDurationSeconds") or 0),
        acquired_at=_moment(spec.get("acquireTime")),
        renewed_at=_moment(spec.get("renewTime")),
        transitions=int(spec.get("leaseTransitions") or 0),
        version=str(lease["metadata"].get("resourceVersion", "")),
    )


def build_lease(namespace: str, name: str, claim: Claim) -> dict[str, Any]:
    """The Lease for an apply, at the version that the claim was read at."""
    times = {"acquireTime": claim.acquired_at, "renewTime": claim.renewed_at}
    version = {"resourceVersion": claim.version} if claim.version else {}
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {"name": name, "namespace": namespace, **version},
        "spec": {
            "holderIdentity": claim.holder,
            "leaseDurationSeconds": claim.lease_s,
            "leaseTransitions": claim.transitions,
            **{key: _micro_time(moment) for key, moment in times.items() if moment is not None},
        },
    }


class Election:
    """What one operator knows of the lease. Times are seconds on its own steady clock."""

    def __init__(self, identity: str, pace: Pace) -> None:
        """Take a name that no other process ever has, and the pace."""
        self._identity = identity
        self._pace = pace
        self._claim: Claim | None = None
        self._free_at = -math.inf
        self._sure_until = -math.inf

    @property
    def holder(self) -> str:
        """Who is in the lease, as far as known."""
        return self._claim.holder if self._claim is not None else ""

    @property
    def version(self) -> str:
        """The version at which the lease was last seen."""
        return self._claim.version if self._claim is not None else ""

    def sure_for_s(self, now_s: float) -> float:
        """How long this operator can be sure that no other leads; 0 when it does not lead."""
        return max(0.0, self._sure_until - now_s)

    def free_in_s(self, now_s: float) -> float:
        """How long to wait before writing oneself in; 0: now."""
        return max(0.0, self._free_at - now_s)

    def observe(self, claim: Claim | None, now_s: float) -> None:
        """Take in what the API server said of the lease (None: there is none), heard just now.

        A lease that vanishes frees nothing: whoever was in it may still be at work.
        """
        if claim is not None and claim != self._claim:
            is_others = claim.holder not in ("", self._identity)
            self._free_at = now_s + claim.lease_s if is_others else now_s
        if claim is None or claim.holder != self._identity:
            self._sure_until = -math.inf
        self._claim = claim

    def claim(self, wall: datetime) -> Claim:
        """The lease with this operator in it: renewed, or taken. To be written when it is free."""
        old = self._claim
        if old is not None and old.holder == self._identity:
            return replace(old, lease_s=self._pace.lease_s, renewed_at=wall)
        return Claim(
            self._identity,
            self._pace.lease_s,
            acquired_at=wall,
            renewed_at=wall,
            transitions=old.transitions + 1 if old is not None else 0,
            version=old.version if old is not None else "",
        )

    def won(self, claim: Claim, sent_s: float) -> None:
        """The API server has taken `claim`, which was sent then."""
        self._claim = claim
        self._free_at = sent_s
        self._sure_until = sent_s + self._pace.deadline_s

    def resign(self, wall: datetime) -> Claim | None:
        """Lead no longer; returns the lease without this operator, None when it is not in it."""
        self._sure_until = -math.inf
        if self._claim is None or self._claim.holder != self._identity:
            return None
        return replace(self._claim, holder="", renewed_at=wall)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _micro_time(moment: datetime) -> str:
    """A moment as Kubernetes' MicroTime."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
