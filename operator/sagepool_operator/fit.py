"""Whether a model fits into the memory of its GPUs, from the model's config.json. Pure.

What vLLM needs on each GPU, and has to find within its share of the GPU's memory before it starts:

    weights      parameters x bytes of one, split over the GPUs (tensor parallel)
    KV cache     of one request of the greatest length:
                 2 (key and value) x layers x KV heads x head size x 2 bytes, for each token,
                 split over the GPUs down to one KV head
    activations  of one step: tokens of a step x (2 x intermediate size + 2 x hidden size) x 2 bytes
    context      CUDA's own: 0.5 GiB

Sources: the KV cache, Kwon et al., "Efficient Memory Management for Large Language Model Serving
with PagedAttention", 2023, section 3, with the KV heads of Ainslie et al., "GQA", 2023; parameters,
the layers of each architecture in Hugging Face's transformers; the tokens of a step and the refusal
to start without room for one request, vLLM 0.25 (`max_num_batched_tokens`, `kv_cache_utils.py`).

Each part is at the low end: norms, biases, CUDA graphs, fragmentation and sampling are left out. So
"does not fit" can be relied on, and "fits" is no promise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

_GIB: Final = 2**30
_CONTEXT_BYTES: Final = _GIB // 2
_NUMBER_BYTES: Final = 2
"""Half precision, into which vLLM turns what is stored in more."""
_LARGE_GPU_BYTES: Final = 70 * _GIB
_DEFAULT_FRACTION: Final = 0.92
"""vLLM's share where none is set: 0.9, or 0.92 in newer versions. The larger one condemns less."""

Count = Annotated[int, Field(ge=1, le=10**9)]


class ModelConfig(BaseModel):
    """What is read of a config.json."""

    architectures: list[str] = Field(min_length=1)
    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    vocab_size: Count
    intermediate_size: Count
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    max_position_embeddings: Count | None = None
    type_vocab_size: int = Field(default=0, ge=0, le=10**6)
    tie_word_embeddings: bool = False
    sliding_window: Count | None = None
    use_sliding_window: bool = True
    num_local_experts: Count | None = None
    num_experts: Count | None = None
    moe_intermediate_size: Count | None = None
    shared_expert_intermediate_size: int = Field(default=0, ge=0, le=10**9)
    quantization_config: Mapping[str, Any] | None = None

    @property
    def head_size(self) -> int:
        """Numbers in one head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def kv_heads(self) -> int:
        """Heads of the KV cache."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def is_encoder(self) -> bool:
        """It embeds without a KV cache."""
        return self.architectures[0] in _ENCODERS


@dataclass(frozen=True, slots=True)
class Hardware:
    """The GPUs of one engine, and what vLLM may take of each."""

    count: int
    memory_bytes: int
    fraction: float | None = None

    @property
    def budget_bytes(self) -> int:
        """What vLLM may take of one GPU."""
        return int(self.memory_bytes * (self.fraction or _DEFAULT_FRACTION))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an engine needs on each of its GPUs, at least."""

    budget_bytes: int
    weights_bytes: int
    activations_bytes: int
    kv_bytes_per_token: int
    length: int
    """Tokens of the longest request."""

    @property
    def needed_bytes(self) -> int:
        """All of it together."""
        return (
            self.weights_bytes
            + self.activations_bytes
            + _CONTEXT_BYTES
            + self.kv_bytes_per_token * self.length
        )

    @property
    def fits(self) -> bool:
        """Whether it finds room; see above for what that is worth."""
        return self.needed_bytes <= self.budget_bytes

    @property
    def longest(self) -> int:
        """Tokens of the longest request that there would be room for; 0: not even the weights."""
        rest = self.budget_bytes - self.weights_bytes - self.activations_bytes - _CONTEXT_BYTES
        return max(0, rest // self.kv_bytes_per_token) if self.kv_bytes_per_token else self.length


def count_parameters(config: ModelConfig) -> tuple[int, int] | None:
    """Parameters of the embeddings and of the layers; None for an architecture not known here."""
    count_layer = _LAYERS.get(config.architectures[0])
    if count_layer is None:
        return None
    embeddings = config.vocab_size * config.hidden_size
    if config.is_encoder:
        places = (config.max_position_embeddings or 0) + config.type_vocab_size
        embeddings += places * config.hidden_size
    elif not config.tie_word_embeddings:
        embeddings *= 2
    return embeddings, config.num_hidden_layers * count_layer(config)


def estimate(config: ModelConfig, hardware: Hardware, length: int | None) -> Estimate | str:
    """What an engine needs for requests of this length (None: what the model can take).

    Returns why nothing can be said, in words, when nothing can.
    """
    counted = count_parameters(config)
    if counted is None:
        return f"nothing is known about the architecture {config.architectures[0]}"
    bits = _bits(config.quantization_config)
    if bits is None:
        return "nothing is known about its quantization"
    length = length or config.max_position_embeddings
    if length is None:
        return "its config.json does not say how long a request may be"
    embeddings, layers = counted
    weights_bytes = embeddings * _NUMBER_BYTES + int(layers * bits / 8)
    step = min(length, 8192 if hardware.memory_bytes >= _LARGE_GPU_BYTES else 2048)
    width = 2 * config.intermediate_size // hardware.count + 2 * config.hidden_size
    return Estimate(
        budget_bytes=hardware.budget_bytes,
        weights_bytes=weights_bytes // hardware.count,
        activations_bytes=step * width * _NUMBER_BYTES,
        kv_bytes_per_token=_kv_bytes_per_token(config, hardware.count),
        length=_cached_tokens(config, length),
    )


def _kv_bytes_per_token(config: ModelConfig, gpus: int) -> int:
    if config.is_encoder:
        return 0
    heads = max(1, config.kv_heads // gpus)
    return 2 * config.num_hidden_layers * heads * config.head_size * _NUMBER_BYTES


def _cached_tokens(config: ModelConfig, length: int) -> int:
    """With a sliding window no more than its tokens are kept."""
    if config.sliding_window is not None and config.use_sliding_window:
        return min(length, config.sliding_window)
    return length


def _bits(quantization: Mapping[str, Any] | None) -> int | None:
    """Bits of one parameter of a layer; embeddings are never quantised."""
    if quantization is None:
        return 8 * _NUMBER_BYTES
    if quantization.get("quant_method") == "fp8":
        return 8
    bits = quantization.get("bits")
    return bits if isinstance(bits, int) and 1 < bits <= 8 else None


# Parameters of one layer. Norms and biases are left out: a thousandth of them.


def _attention(config: ModelConfig) -> int:
    heads = 2 * config.num_attention_heads + 2 * config.kv_heads
    return config.hidden_size * config.head_size * heads


def _gated(config: ModelConfig, width: int) -> int:
    return 3 * config.hidden_size * width


def _dense_layer(config: ModelConfig) -> int:
    return _attention(config) + _gated(config, config.intermediate_size)


def _expert_layer(config: ModelConfig) -> int:
    experts = config.num_local_experts or config.num_experts or 1
    width = config.moe_intermediate_size or config.intermediate_size
    shared = _gated(config, config.shared_expert_intermediate_size)
    gate = config.hidden_size * experts
    return _attention(config) + experts * _gated(config, width) + shared + gate


def _encoder_layer(config: ModelConfig) -> int:
    return 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size


_ENCODERS: Final = frozenset({"BertModel", "RobertaModel", "XLMRobertaModel"})
_LAYERS: Final[Mapping[str, Callable[[ModelConfig], int]]] = {
    "LlamaForCausalLM": _dense_layer,
    "MistralForCausalLM": _dense_layer,
    "Phi3ForCausalLM": _dense_layer,
    "Qwen2ForCausalLM": _dense_layer,
    "Qwen3ForCausalLM": _dense_layer,
    "MixtralForCausalLM": _expert_layer,
    "Qwen2MoeForCausalLM": _expert_layer,
    "Qwen3MoeForCausalLM": _expert_layer,
    **dict.fromkeys(_ENCODERS, _encoder_layer),
}
