"""What config.json says of models on the hub."""

from typing import Any, Final

QWEN_7B: Final[dict[str, Any]] = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
}
"""Qwen/Qwen2.5-7B-Instruct: 15.2e9 bytes of weights, 14.2 GiB."""
