from pathlib import Path

from sagepool_demo.figures import Outcome, summarise
from sagepool_demo.report import format_answered, format_figures, format_next_steps

FINISHED = summarise(
    [
        Outcome("streamed chat", 0, 0.5, first_token_s=0.05, instance="rag-chat-1"),
        Outcome("chat", 0, 0.25, instance="rag-chat-1"),
    ],
    1,
)


def test_figures_are_a_table_with_a_row_for_each_kind_of_request() -> None:
    rows = [line.split() for line in format_figures(FINISHED).splitlines()[1:]]
    assert rows == [
        ["streamed", "chat", "1", "0", "500", "ms", "500", "ms", "50", "ms", "50", "ms"],
        ["chat", "1", "0", "250", "ms", "250", "ms", "-", "-"],
        ["embeddings", "0", "0", "-", "-", "-", "-"],
    ]


def test_a_second_table_says_who_answered_what() -> None:
    assert format_answered(FINISHED).splitlines()[1].split() == ["rag-chat-1", "1", "1", "-"]


def test_the_next_steps_name_the_way_on_and_the_way_down() -> None:
    steps = format_next_steps(Path("/k"), Path("/t"), "demo", "rag", "m")
    for word in ("KUBECONFIG=/k", "port-forward service/rag-router", "curl", "make demo-down"):
        assert word in steps
