"""How many engines a group has, when not a fixed number."""

from typing import Final, Literal, TypeAlias

from pydantic import ConfigDict, Field

from sagepool_crds.markers import Rule, rules
from sagepool_crds.meta import ApiModel

ScalingMode: TypeAlias = Literal["auto", "external"]

_SCALE_DOWN_AFTER_S: Final = 300
_IDLE_TO_ZERO_S: Final = 900
_HOLD_S: Final = 300


class ScalingTarget(ApiModel):
    """What one engine should have; of several targets the one that asks for most engines wins."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "has(self.inFlight) || has(self.queuedRequests) || has(self.queuedTexts) || "
                "has(self.ttftMs)",
                "target is empty: say what one engine should have, for example inFlight: 32",
            )
        )
    )

    in_flight: int | None = Field(default=None, ge=1, le=65_536)
    """Calls that one engine should have, requests that wait included: there are as many engines
    as that takes."""
    queued_requests: int | None = Field(default=None, ge=1, le=100_000)
    """For so many requests that wait while the engines are full there is one engine more."""
    queued_texts: int | None = Field(default=None, ge=1, le=1_000_000)
    """For so many texts that wait while the engines are full there is one engine more."""
    ttft_ms: int | None = Field(default=None, ge=1, le=60_000)
    """Milliseconds to a chat's first token: while nine of ten answers do not begin within it,
    there are more engines."""


class Scaling(ApiModel):
    """Between how many engines a group moves, and by what."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.mode != 'external' || (!has(self.minReplicas) && !has(self.maxReplicas) && "
                "!has(self.target) && !has(self.scaleDownAfterSeconds) && "
                "!has(self.idleToZeroSeconds))",
                "mode external leaves the number of engines to others: remove minReplicas, "
                "maxReplicas, target, scaleDownAfterSeconds and idleToZeroSeconds, or set mode to "
                "auto",
                field_path=".mode",
            ),
            Rule(
                "self.mode == 'external' || has(self.maxReplicas)",
                "maxReplicas is missing: say how many engines there may be at most, or set mode "
                "to external",
                field_path=".maxReplicas",
            ),
            Rule(
                "self.mode == 'external' || has(self.target)",
                "target is missing: say what one engine should have, for example "
                "target: {inFlight: 32}, or set mode to external",
                field_path=".target",
            ),
            Rule(
                "!has(self.minReplicas) || !has(self.maxReplicas) || "
                "self.minReplicas <= self.maxReplicas",
                "minReplicas is above maxReplicas: lower it, or raise maxReplicas",
                field_path=".minReplicas",
            ),
            Rule(
                "!has(self.idleToZeroSeconds) || (has(self.minReplicas) && self.minReplicas == 0)",
                "only a group without a last engine goes to zero: set minReplicas to 0, or remove "
                "idleToZeroSeconds",
                field_path=".idleToZeroSeconds",
            ),
            Rule(
                "!has(self.holdSeconds) || self.mode == 'external' || "
                "(has(self.minReplicas) && self.minReplicas == 0)",
                "a group that keeps its last engine holds no request: set minReplicas to 0, or "
                "remove holdSeconds",
                field_path=".holdSeconds",
            ),
        )
    )

    mode: ScalingMode = "auto"
    """auto: the operator scales by what the routers report; external: an autoscaler of yours, or
    a person, sets `replicas` of the group's Deployment, and the operator leaves it alone."""
    min_replicas: int | None = Field(default=None, ge=0, le=1024)
    """Engines at least; 0: none while nobody asks. Left out: 1."""
    max_replicas: int | None = Field(default=None, ge=1, le=1024)
    """Engines at most."""
    target: ScalingTarget | None = None
    """What one engine should have."""
    scale_down_after_seconds: int | None = Field(default=None, ge=0, le=86_400)
    """An engine is taken away when for so long it has not been needed. Left out: 300."""
    idle_to_zero_seconds: int | None = Field(default=None, ge=1, le=604_800)
    """With minReplicas 0: the last engines are taken away when nobody has asked for so long. Left
    out: 900."""
    hold_seconds: int | None = Field(default=None, ge=0, le=3600)
    """A request that finds no engine waits so long at most for one to come up, instead of
    `queue.maxWaitSeconds`; a deadline of its own ends it earlier. 0: it is answered 503 at once,
    and an engine comes up all the same. Left out: 300."""

    @property
    def is_external(self) -> bool:
        """Whether others say how many engines there are."""
        return self.mode == "external"

    @property
    def least(self) -> int:
        """Engines at least."""
        return 1 if self.min_replicas is None else self.min_replicas

    @property
    def most(self) -> int:
        """Engines at most."""
        return max(self.least, self.max_replicas or 1)

    @property
    def down_after_s(self) -> int:
        """How long an engine has not been needed before it is taken away."""
        given = self.scale_down_after_seconds
        return _SCALE_DOWN_AFTER_S if given is None else given

    @property
    def idle_to_zero_s(self) -> int:
        """How long nobody has asked before the last engines are taken away."""
        given = self.idle_to_zero_seconds
        return _IDLE_TO_ZERO_S if given is None else given

    @property
    def hold_s(self) -> int:
        """How long a request waits for a first engine; 0 where none does."""
        if not self.is_external and self.least > 0:
            return 0
        return _HOLD_S if self.hold_seconds is None else self.hold_seconds
