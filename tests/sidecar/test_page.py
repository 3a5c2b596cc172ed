"""What the sidecar reads from an engine's metrics."""

import pytest

from sagepool_sidecar.page import Load, MetricNames, add_loads, read_load

NAMES = MetricNames(
    running=frozenset({"vllm:num_requests_running"}),
    waiting=frozenset({"vllm:num_requests_waiting"}),
    usage=frozenset({"vllm:kv_cache_usage_perc"}),
    progress=frozenset({"vllm:prompt_tokens_total", "vllm:request_success_total"}),
)
PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a} b"} 3.0
vllm:num_requests_running{engine="1",model_name="a} b"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
vllm:prompt_tokens_total{engine="0",model_name="m"} 100.0 1764140000000
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 7.0
"""


def test_counts_are_summed_over_engine_cores_and_usage_is_the_fullest_ones() -> None:
    assert read_load(PAGE, NAMES) == Load(4, 2, 0.5, 107.0)


def test_a_metric_without_labels_is_read() -> None:
    names = MetricNames(waiting=frozenset({"te_queue_size"}))
    assert read_load("te_queue_size 5\n", names).waiting == 5


def test_what_the_page_lacks_is_zero() -> None:
    assert read_load("", NAMES) == Load(0, 0, 0.0, 0.0)


@pytest.mark.parametrize("line", ["vllm:num_requests_running", "vllm:num_requests_running{", "} "])
def test_a_line_that_is_cut_off_is_left_out(line: str) -> None:
    assert read_load(line, NAMES).is_idle


@pytest.mark.parametrize("value", ["NaN", "+Inf", "many"])
def test_what_is_no_number_is_left_out(value: str) -> None:
    assert read_load(f"vllm:num_requests_running {value}\n", NAMES).is_idle


def test_the_load_of_several_engines_is_their_sum_and_the_fullest_cache() -> None:
    assert add_loads([Load(1, 2, 0.25, 10.0), Load(3, 0, 0.5, 5.0)]) == Load(4, 2, 0.5, 15.0)
