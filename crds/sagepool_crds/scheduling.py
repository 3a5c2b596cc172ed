"""How a pool's router places requests."""

from typing import Literal, TypeAlias

from pydantic import Field

from sagepool_crds.meta import ApiModel

LlmPolicy: TypeAlias = Literal["adaptive", "slo_aware", "priority", "cost_optimized", "fifo"]
Policy: TypeAlias = Literal["hybrid", "adaptive", "slo_aware", "priority", "cost_optimized", "fifo"]
EmbeddingPriority: TypeAlias = Literal["high", "normal", "low", "adaptive"]


class Queue(ApiModel):
    """Requests that no engine has room for yet."""

    max_requests: int = Field(default=1000, ge=0, le=100_000)
    """Requests that wait in one router at most; one more is answered 429. 0: none waits."""
    max_wait_seconds: int = Field(default=60, ge=1, le=3600)
    """A request that has waited so long is answered 504; one with a deadline of its own, by
    then."""


class Slo(ApiModel):
    """What answers should take at most."""

    chat_ttft_ms: int = Field(default=1000, ge=1, le=600_000)
    """Milliseconds to a chat's first token. While it takes longer, embeddings on the same GPU are
    held back, unless embeddingPriority is high."""
    embedding_ms: int = Field(default=200, ge=1, le=600_000)
    """Milliseconds to an embedding."""


class Scheduling(ApiModel):
    """How requests are placed on engines."""

    policy: Policy = "hybrid"
    """hybrid merges embeddings into batches and shares mixed instances; the others treat every
    request alike: by arrival (fifo), by priority, by slack to the deadline (slo_aware), by price
    (cost_optimized), or by whichever of them fits the moment (adaptive)."""
    llm_policy: LlmPolicy = "adaptive"
    """What hybrid uses for chat and completions."""
    embedding_batch_size: int = Field(default=32, ge=1, le=2048)
    """Texts in one call to an embedding engine at most; a longer request is split."""
    embedding_batch_tokens: int = Field(default=16_384, ge=1, le=1_048_576)
    """Tokens in one call at most, as estimated from the texts' length; one text is never split."""
    max_embedding_wait_ms: int = Field(default=5, ge=0, le=1000)
    """Milliseconds that a text may wait for others to join its call, while every engine is busy.
    """
    embedding_priority: EmbeddingPriority = "normal"
    """When chat and embeddings both wait: embeddings first (high), last (low), by arrival (normal),
    or first while they are most of what waits (adaptive)."""
    hybrid_instance_ratio: float = Field(default=0.7, ge=0, le=1)
    """Share of a mixed instance's time that chat gets while both kinds wait for it."""
    prefer_specialized_instances: bool = True
    """True: an instance of one role goes before a mixed one."""
    prefix_affinity: bool = True
    """True: prompts that begin alike go to the same instance while its load allows it."""
    queue: Queue = Field(default_factory=Queue)
    """Requests that no engine has room for yet."""
    slo: Slo = Field(default_factory=Slo)
    """What answers should take at most."""
