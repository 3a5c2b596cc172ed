"""What engines' own pages say, read without guessing."""

import pytest

from sagepool_engines.dialects import (
    DIALECTS,
    EngineLoad,
    Served,
    UnexpectedAnswerError,
    read_load,
)

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting_by_reason{engine="0"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75

"""


@pytest.mark.parametrize(
    ("engine", "page", "load"),
    [
        ("vllm", VLLM, EngineLoad(running=5, waiting=1, kv_cache_usage=0.75)),
        ("simulator", VLLM, EngineLoad(running=5, waiting=1, kv_cache_usage=0.75)),
        ("tei", 'te_queue_size 7\nte_request_count{method="batch"} 3\n', EngineLoad(0, 7, 0.0)),
        ("vllm", "", EngineLoad(0, 0, 0.0)),
        ("vllm", "vllm:num_requests_running 2 1700000000000\n", EngineLoad(2, 0, 0.0)),
        ("vllm", 'vllm:num_requests_running{a="}{ "} 2\n', EngineLoad(2, 0, 0.0)),
        ("vllm", "vllm:kv_cache_usage_perc NaN\n", EngineLoad(0, 0, 0.0)),
        ("vllm", "vllm:kv_cache_usage_perc 1.5\n", EngineLoad(0, 0, 1.0)),
    ],
)
def test_load_is_read_from_the_metrics(engine: str, page: str, load: EngineLoad) -> None:
    assert read_load(DIALECTS[engine], page) == load


def test_metric_without_a_number_is_no_metrics_page() -> None:
    with pytest.raises(UnexpectedAnswerError, match="metric without a number"):
        read_load(DIALECTS["vllm"], "vllm:num_requests_running many\n")


@pytest.mark.parametrize(
    ("engine", "answer", "served"),
    [
        (
            "vllm",
            {"data": [{"id": "m", "max_model_len": 8192}, {"id": "lora", "max_model_len": None}]},
            Served(("m", "lora"), 8192),
        ),
        (
            "vllm",
            {"data": [{"id": "m", "parent": None}, {"id": "bot", "root": "a/b", "parent": "m"}]},
            Served(("m", "bot"), None, (("bot", "a/b"),)),
        ),
        ("vllm", {"data": []}, Served(())),
        ("tei", {"model_id": "BAAI/bge-m3", "max_input_length": 8192}, Served((), 8192)),
    ],
)
def test_facts_are_read(engine: str, answer: object, served: Served) -> None:
    assert DIALECTS[engine].read_facts(answer) == served


@pytest.mark.parametrize(
    ("engine", "answer", "why"),
    [
        ("vllm", {"models": []}, "not in OpenAI's form"),
        ("vllm", {"data": [7]}, "not in OpenAI's form"),
        ("vllm", [], "not in OpenAI's form"),
        ("vllm", {"data": [{"id": "m", "owned_by": "sagepool-router"}]}, "a sagepool router"),
        ("tei", {"id": "x"}, "not that of Text Embeddings Inference"),
        ("tei", [], "not that of Text Embeddings Inference"),
    ],
)
def test_something_else_is_not_taken_for_the_engine(engine: str, answer: object, why: str) -> None:
    with pytest.raises(UnexpectedAnswerError, match=why):
        DIALECTS[engine].read_facts(answer)
