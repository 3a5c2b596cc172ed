import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagepool_demo.search import cosine_similarity, find_nearest

VECTORS = st.lists(st.floats(-100, 100), min_size=3, max_size=3)


def test_the_nearest_vector_is_the_one_with_the_smallest_angle() -> None:
    index, similarity = find_nearest([1, 1], [[1, 0], [5, 4], [-1, -1]])
    assert index == 1
    assert similarity == pytest.approx(0.9939, abs=1e-4)


def test_a_zero_vector_is_similar_to_nothing() -> None:
    assert cosine_similarity([0, 0], [1, 2]) == 0.0


def test_vectors_of_different_length_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        cosine_similarity([1], [1, 2])


@given(VECTORS, VECTORS)
def test_similarity_is_symmetric_and_within_one(a: list[float], b: list[float]) -> None:
    similarity = cosine_similarity(a, b)
    assert similarity == pytest.approx(cosine_similarity(b, a))
    assert abs(similarity) <= 1 + 1e-9
