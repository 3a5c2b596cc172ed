"""Embeddings are deterministic, of length one, and alike for alike texts."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_simulator.embedding import cosine, embed, normalise

PARAGRAPHS = {
    "routing": "The router sends each request to the least loaded instance that serves its model.",
    "operator": "The operator watches pools and creates Deployments, Services and budgets.",
    "license": "This software may be used, changed and passed on under the Apache License.",
}


@given(st.text(max_size=200), st.integers(min_value=1, max_value=512))
def test_every_vector_has_its_dimension_and_length_one(text: str, dimension: int) -> None:
    vector = embed(text, dimension)
    assert len(vector) == dimension
    assert math.isclose(sum(x * x for x in vector), 1.0, rel_tol=1e-9)


def test_vectors_are_the_same_in_every_process() -> None:
    program = "from sagepool_simulator.embedding import embed; print(embed('some text', 8))"
    environment = {"PYTHONHASHSEED": "12345"}
    printed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == str(embed("some text", 8))


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("How are requests routed to instances?", "routing"),
        ("What does the operator create for a pool?", "operator"),
        ("Under which licence may I use it?", "license"),
    ],
)
def test_a_question_is_closest_to_the_paragraph_that_answers_it(question: str, best: str) -> None:
    asked = embed(question, 384)
    scores = {name: cosine(asked, embed(text, 384)) for name, text in PARAGRAPHS.items()}
    assert max(scores, key=lambda name: scores[name]) == best


def test_a_zero_vector_becomes_a_unit_vector() -> None:
    assert normalise([0.0, 0.0]) == [1.0, 0.0]
