"""What tells one embedding space from another."""

import math
import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagepool_crds.space import EmbeddingSpace
from sagepool_engines.space import describe_space, tell_apart


def unit(rng: Random, dimension: int) -> list[float]:
    vector = [rng.gauss(0, 1) for _ in range(dimension)]
    norm = math.hypot(*vector)
    return [x / norm for x in vector]


def turned(vector: list[float], cosine: float, rng: Random) -> list[float]:
    """A vector of length one at this cosine to `vector`, which has length one."""
    other = unit(rng, len(vector))
    along = sum(x * y for x, y in zip(vector, other, strict=True))
    across = [y - along * x for x, y in zip(vector, other, strict=True)]
    norm, sine = math.hypot(*across), math.sqrt(1 - cosine**2)
    return [cosine * x + sine * y / norm for x, y in zip(vector, across, strict=True)]


def half(vector: list[float]) -> list[float]:
    """The vector in half precision."""
    return [struct.unpack("e", struct.pack("e", x))[0] for x in vector]


seeds = st.integers(0, 2**32)
dimensions = st.sampled_from([8, 100, 384, 1024])


@settings(deadline=None, max_examples=50)
@given(seeds, dimensions)
def test_half_precision_is_the_same_space(seed: int, dimension: int) -> None:
    vector = unit(Random(seed), dimension)
    assert tell_apart(describe_space(half(vector)), describe_space(vector)) == ""


@settings(deadline=None, max_examples=50)
@given(seeds, st.sampled_from([384, 1024]), st.floats(0.9995, 1))
def test_what_kernels_and_batches_change_is_the_same_space(
    seed: int, dimension: int, cosine: float
) -> None:
    rng = Random(seed)
    vector = unit(rng, dimension)
    other = turned(vector, cosine, rng)
    assert tell_apart(describe_space(other), describe_space(vector)) == ""


@settings(deadline=None, max_examples=50)
@given(seeds, st.sampled_from([384, 1024]), st.floats(-1, 0.9))
def test_another_direction_is_another_space(seed: int, dimension: int, cosine: float) -> None:
    rng = Random(seed)
    vector = unit(rng, dimension)
    other = turned(vector, cosine, rng)
    assert "points elsewhere" in tell_apart(describe_space(other), describe_space(vector))


def test_another_dimension_is_another_space() -> None:
    words = tell_apart(describe_space([1.0, 0.0]), describe_space([1.0, 0.0, 0.0]))
    assert words == "its dimension is 2, not 3"


@pytest.mark.parametrize(("factor", "is_same"), [(1.01, True), (0.99, True), (1.1, False)])
def test_another_length_is_another_space(factor: float, is_same: bool) -> None:
    vector = unit(Random(1), 384)
    words = tell_apart(describe_space([factor * x for x in vector]), describe_space(vector))
    assert ("has length" not in words) == is_same


def test_a_fingerprint_is_the_same_in_every_version_and_on_every_machine() -> None:
    space = describe_space([3.0, 4.0])
    assert (space.dimension, space.norm) == (2, 5.0)
    assert space.fingerprint == (
        "1.+gYGBvrTBtMt0wYG09PT0y3TLfrT0y0GBvotLS0t+tMt0/rTLQYG+i0t+voG0wb6LfoGBgb6+votLQb6Bi36Bg=="
    )


def test_a_space_fits_into_a_status() -> None:
    space = describe_space(unit(Random(1), 4096))
    assert EmbeddingSpace.model_validate(space.to_object()) == space


def test_fingerprints_of_another_scheme_part_nobody() -> None:
    ours = describe_space([3.0, 4.0])
    theirs = ours.model_copy(update={"fingerprint": "2.x"})
    assert tell_apart(ours, theirs) == ""


@pytest.mark.parametrize("vector", [[], [0.0, 0.0], [math.nan], [math.inf, 1.0]])
def test_a_vector_without_a_direction_describes_no_space(vector: list[float]) -> None:
    with pytest.raises(ValueError, match="empty, zero or not finite"):
        describe_space(vector)
