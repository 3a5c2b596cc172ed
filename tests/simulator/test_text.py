"""Tokens are counted alike wherever they are counted."""

from hypothesis import given
from hypothesis import strategies as st

from sagepool_simulator.text import answer_words, count_tokens, tokenize


@given(st.lists(st.integers(0, 65535), max_size=100), st.integers(0, 200))
def test_an_answer_has_as_many_tokens_as_it_counts(prompt: list[int], count: int) -> None:
    assert len(tokenize("".join(answer_words(prompt, count)))) == count


@given(st.text())
def test_a_text_counts_as_many_tokens_as_it_has(text: str) -> None:
    assert count_tokens(text) == max(len(tokenize(text)), 1 if text else 0)


def test_an_answer_depends_on_the_prompt_alone() -> None:
    assert list(answer_words([1, 2], 8)) == list(answer_words([1, 2], 8))
    assert list(answer_words([1, 2], 8)) != list(answer_words([1, 3], 8))


def test_long_words_are_several_tokens() -> None:
    assert count_tokens("a tokenizer, mostly") == 1 + 2 + 1 + 2
