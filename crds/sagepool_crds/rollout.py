"""How a group's engine pods are replaced, and how they leave."""

from pydantic import ConfigDict, Field

from sagepool_crds.markers import Rule, rules
from sagepool_crds.meta import ApiModel


class Rollout(ApiModel):
    """How a group's engine pods are replaced, and how they leave."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                # The server also checks the default of the whole, before it fills in those within.
                "!has(self.maxSurge) || self.maxSurge > 0 || "
                "(has(self.maxUnavailable) && self.maxUnavailable > 0)",
                "maxSurge and maxUnavailable are both 0, so no pod could ever be replaced: set one "
                "of them to 1 or more",
                field_path=".maxSurge",
            )
        )
    )

    max_surge: int = Field(default=1, ge=0, le=1024)
    """Pods that a change may start beyond replicas. Each needs GPUs of its own, and so does each
    pod that is still finishing its requests."""
    max_unavailable: int = Field(default=0, ge=0, le=1024)
    """Pods that may be missing from replicas during a change. Where no GPU is spare, set it to 1
    and maxSurge to 0."""
    drain_seconds: int = Field(default=300, ge=10, le=86400)
    """A pod that is to leave gets no new request and finishes those it has, for so long at most."""
