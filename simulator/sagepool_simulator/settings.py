"""What a simulator serves and how it behaves, fixed at its start."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["llm", "embedding"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take. All zero: answers are instant and leave in one write.

    An engine's steps grow slower with what they compute at once. With `n` sequences under way a
    step that gives each one token takes `inter_token_s * (1 + batch_slowdown * (n - 1))`; the
    first token of a prompt comes after `(first_token_s + prefill_token_s * tokens) *
    (1 + batch_slowdown * (n - 1))`, where tokens found in the prefix cache are not counted. An
    embedding call takes `embed_call_s + embed_token_s * tokens`, slowed by the calls under way.
    """

    first_token_s: float = 0.0
    inter_token_s: float = 0.0
    prefill_token_s: float = 0.0
    embed_call_s: float = 0.0
    embed_token_s: float = 0.0
    batch_slowdown: float = 0.02


@dataclass(frozen=True, slots=True)
class Settings:
    """What a simulator is told on its command line."""

    models: tuple[tuple[str, Role], ...]
    """Names that it answers to, each with what it does; answers carry the name that was asked."""
    adapters: tuple[tuple[str, str], ...] = ()
    """LoRA adapters that it starts with: name and path."""
    is_lora_enabled: bool = False
    """Whether adapters can be loaded and unloaded while it runs."""
    max_lora_rank: int = 16
    """Adapters of a higher rank are refused."""
    root: str = ""
    """Reported as `root` of its models; empty: the model's name."""
    max_model_len: int = 32768
    """Longest prompt and answer together, in tokens."""
    dimension: int = 384
    """Length of an embedding."""
    max_num_seqs: int = 256
    """Requests computed at once; the others wait."""
    kv_blocks: int = 8192
    """Blocks of 16 tokens that the key-value cache holds."""
    default_max_tokens: int = 64
    """Length of an answer when the request does not say."""
    load_s: float = 0.0
    """Time to load; nothing listens until it is over, as with a real engine."""
    keep_alive_s: float = 5.0
    """An idle connection is closed after that time."""
    max_body_bytes: int = 64 << 20
    """Larger bodies are answered 413."""
    shutdown_s: float = 30.0
    """After SIGTERM requests may finish for that long."""
    seed: int = 0
    """Of the random choice of faults."""
    pace: Pace = field(default_factory=Pace)

    def role_of(self, model: str) -> Role | None:
        """What the model does; None when it is not served."""
        return next((role for name, role in self.models if name == model), None)
