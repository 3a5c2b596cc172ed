"""Whether a model fits, held against models whose sizes their makers publish."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_operator.fit import (
    Estimate,
    Hardware,
    ModelConfig,
    count_parameters,
    estimate,
)

GIB = 2**30


def config(architecture: str, *sizes: int, **more: Any) -> ModelConfig:
    """Sizes: hidden, layers, heads, KV heads, intermediate, vocabulary, greatest length."""
    hidden, layers, heads, kv_heads, intermediate, vocabulary, length = sizes
    return ModelConfig.model_validate(
        {
            "architectures": [architecture],
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "intermediate_size": intermediate,
            "vocab_size": vocabulary,
            "max_position_embeddings": length,
            **more,
        }
    )


LLAMA_8B = config("LlamaForCausalLM", 4096, 32, 32, 8, 14336, 128256, 131072)
LLAMA_70B = config("LlamaForCausalLM", 8192, 80, 64, 8, 28672, 128256, 131072)
LLAMA_1B = config(
    "LlamaForCausalLM", 2048, 16, 32, 8, 8192, 128256, 131072, tie_word_embeddings=True
)
QWEN_7B = config("Qwen2ForCausalLM", 3584, 28, 28, 4, 18944, 152064, 32768)
QWEN_HALF_B = config(
    "Qwen2ForCausalLM", 896, 24, 14, 2, 4864, 151936, 32768, tie_word_embeddings=True
)
QWEN3_8B = config("Qwen3ForCausalLM", 4096, 36, 32, 8, 12288, 151936, 40960, head_dim=128)
MISTRAL = config("MistralForCausalLM", 4096, 32, 32, 8, 14336, 32768, 32768)
MIXTRAL = config("MixtralForCausalLM", 4096, 32, 32, 8, 14336, 32000, 32768, num_local_experts=8)
QWEN3_30B_A3B = config(
    "Qwen3MoeForCausalLM",
    *(2048, 48, 32, 4, 6144, 151936, 40960),
    head_dim=128,
    num_experts=128,
    moe_intermediate_size=768,
)
BGE_M3 = config("XLMRobertaModel", 1024, 24, 16, 16, 4096, 250002, 8194, type_vocab_size=1)
BGE_SMALL = config("BertModel", 384, 12, 12, 12, 1536, 30522, 512, type_vocab_size=2)
MINILM = config("BertModel", 384, 6, 12, 12, 1536, 30522, 512, type_vocab_size=2)


@pytest.mark.parametrize(
    ("model", "published"),
    [
        pytest.param(LLAMA_8B, 8.030e9, id="Llama-3.1-8B"),
        pytest.param(LLAMA_70B, 70.554e9, id="Llama-3.1-70B"),
        pytest.param(LLAMA_1B, 1.236e9, id="Llama-3.2-1B"),
        pytest.param(QWEN_7B, 7.616e9, id="Qwen2.5-7B"),
        pytest.param(QWEN_HALF_B, 0.494e9, id="Qwen2.5-0.5B"),
        pytest.param(QWEN3_8B, 8.191e9, id="Qwen3-8B"),
        pytest.param(MISTRAL, 7.248e9, id="Mistral-7B-v0.3"),
        pytest.param(MIXTRAL, 46.703e9, id="Mixtral-8x7B"),
        pytest.param(QWEN3_30B_A3B, 30.532e9, id="Qwen3-30B-A3B"),
        pytest.param(BGE_M3, 567.8e6, id="bge-m3"),
        pytest.param(BGE_SMALL, 33.36e6, id="bge-small-en-v1.5"),
        pytest.param(MINILM, 22.71e6, id="all-MiniLM-L6-v2"),
    ],
)
def test_parameters_are_those_that_are_published_and_never_more(
    model: ModelConfig, published: float
) -> None:
    counted = count_parameters(model)
    assert counted is not None
    assert 0.99 * published <= sum(counted) <= 1.0005 * published


@pytest.mark.parametrize(
    ("model", "gpus", "kib"),
    [
        (LLAMA_8B, 1, 128),
        (LLAMA_8B, 4, 32),
        (LLAMA_8B, 16, 16),  # there is no less than one KV head
        (LLAMA_70B, 1, 320),
        (QWEN_7B, 1, 56),
        (QWEN3_30B_A3B, 1, 96),
        (BGE_M3, 1, 0),
    ],
)
def test_kv_cache_of_a_token(model: ModelConfig, gpus: int, kib: int) -> None:
    assert needs(model, gpus=gpus).kv_bytes_per_token == kib * 1024


def needs(
    model: ModelConfig,
    length: int | None = None,
    *,
    gpus: int = 1,
    gib: float = 80,
    fraction: float | None = None,
) -> Estimate:
    found = estimate(model, Hardware(gpus, int(gib * GIB), fraction), length)
    assert isinstance(found, Estimate)
    return found


@pytest.mark.parametrize(
    ("model", "length", "gpus", "gib", "fits"),
    [
        pytest.param(QWEN_7B, 8192, 1, 24, True, id="a 7B on 24 GiB, as everybody runs it"),
        pytest.param(QWEN_7B, None, 1, 16, False, id="a 7B on 16 GiB: the weights alone are 14.2"),
        pytest.param(LLAMA_8B, None, 1, 24, False, id="128k tokens of Llama 8B take 16 GiB more"),
        pytest.param(LLAMA_8B, 8192, 1, 24, True, id="8k tokens take one"),
        pytest.param(LLAMA_70B, 8192, 1, 80, False, id="a 70B on one GPU"),
        pytest.param(LLAMA_70B, 8192, 2, 80, True, id="a 70B on two"),
        pytest.param(MIXTRAL, 32768, 1, 80, False, id="all experts are loaded"),
        pytest.param(MIXTRAL, 32768, 2, 80, True, id="on two GPUs they fit"),
        pytest.param(BGE_M3, None, 1, 8, True, id="an embedding model on a small GPU"),
    ],
)
def test_well_known_models_on_well_known_gpus(
    model: ModelConfig, length: int | None, gpus: int, gib: int, fits: bool
) -> None:
    assert needs(model, length, gpus=gpus, gib=gib).fits == fits


def test_share_of_the_memory_is_what_counts() -> None:
    assert needs(QWEN_7B, 8192, gib=24).fits
    assert not needs(QWEN_7B, 8192, gib=24, fraction=0.5).fits


@pytest.mark.parametrize(
    ("quantization", "gib"),
    [
        (None, 15.0),
        ({"quant_method": "fp8"}, 8.4),
        ({"quant_method": "awq", "bits": 4}, 5.2),
        ({"quant_method": "gptq", "bits": 8}, 8.4),
    ],
)
def test_quantised_layers_take_fewer_bits(quantization: Any, gib: float) -> None:
    model = LLAMA_8B.model_copy(update={"quantization_config": quantization})
    assert needs(model, 8192).weights_bytes / GIB == pytest.approx(gib, rel=0.02)


def test_a_sliding_window_bounds_the_cache() -> None:
    window = MISTRAL.model_copy(update={"sliding_window": 4096})
    assert needs(window, 32768).length == 4096
    unused = window.model_copy(update={"use_sliding_window": False})
    assert needs(unused, 32768).length == 32768


def test_the_longest_request_that_has_room_fits_and_a_longer_one_does_not() -> None:
    longest = needs(LLAMA_8B, gib=24).longest
    assert 0 < longest < 131072
    assert needs(LLAMA_8B, longest, gib=24).fits
    assert not needs(LLAMA_8B, longest + 1, gib=24).fits
    assert needs(LLAMA_70B, 8192).longest == 0


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (LLAMA_8B.model_copy(update={"architectures": ["Zamba2ForCausalLM"]}), "Zamba2ForCausalLM"),
        (LLAMA_8B.model_copy(update={"quantization_config": {"quant_method": "x"}}), "quantiz"),
        (LLAMA_8B.model_copy(update={"max_position_embeddings": None}), "how long a request"),
    ],
)
def test_what_is_not_known_is_said(model: ModelConfig, words: str) -> None:
    found = estimate(model, Hardware(1, 80 * GIB), None)
    assert isinstance(found, str)
    assert words in found


@given(
    st.sampled_from([LLAMA_8B, QWEN_7B, MIXTRAL, BGE_M3]),
    st.integers(1, 131072),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(8, 192),
)
def test_more_gpus_and_shorter_requests_never_make_it_worse(
    model: ModelConfig, length: int, gpus: int, gib: int
) -> None:
    if needs(model, length, gpus=gpus, gib=gib).fits:
        assert needs(model, length, gpus=2 * gpus, gib=gib).fits
        assert needs(model, max(1, length // 2), gpus=gpus, gib=gib).fits
