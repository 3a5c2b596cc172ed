"""What a pool says about scheduling, as the scheduler reads it."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

PolicyName: TypeAlias = Literal[
    "fifo", "priority", "slo_aware", "cost_optimized", "adaptive", "hybrid"
]
LlmPolicyName: TypeAlias = Literal["fifo", "priority", "slo_aware", "cost_optimized", "adaptive"]
EmbeddingPriority: TypeAlias = Literal["high", "normal", "low", "adaptive"]


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait, and how long."""

    max_requests: int = 1000
    max_wait_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Targets:
    """What the pool promises itself; requests without a deadline are measured against it."""

    chat_ttft_s: float = 1.0
    """Time to a chat's first token."""
    embedding_s: float = 0.2
    """Time to an embedding's answer."""


@dataclass(frozen=True, slots=True)
class SchedulingSettings:
    """A pool's `spec.scheduling`."""

    policy: PolicyName = "hybrid"
    llm_policy: LlmPolicyName = "adaptive"
    embedding_batch_size: int = 32
    """Texts in one merged call at most."""
    embedding_batch_tokens: int = 16384
    """Estimated tokens in one merged call at most."""
    max_embedding_wait_s: float = 0.005
    """How long a text waits for company while every instance is busy and one has room."""
    embedding_priority: EmbeddingPriority = "normal"
    hybrid_instance_ratio: float = 0.7
    """The llm share of a shared GPU's time while both kinds wait."""
    prefer_specialized_instances: bool = True
    prefix_affinity: bool = True
    queue: QueueLimits = field(default_factory=QueueLimits)
    targets: Targets = field(default_factory=Targets)
