"""Tells embedding spaces apart by one vector of each. Pure.

Two engines serve one embedding space when they make the same vector of the same text, up to
rounding. A vector is too long to be kept in a status, and a hash of it would change with the last
bit of a float. So its direction is sketched: 64 sums of the vector's numbers with random signs
(the projection of Johnson and Lindenstrauss with the signs of Achlioptas, "Database-friendly
random projections", 2003), a byte each. The cosine of two sketches estimates the cosine c of the
two vectors with a standard error of (1 - c²) / 8: half precision or another kernel (c > 0.999)
looks the same, another model, pooling or prompt (c < 0.95) does not.

The signs come from SHAKE-256, so every version on every machine draws the same ones. A sketch
begins with the version of the scheme: those of two schemes are not compared.
"""

import base64
import hashlib
import math
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Final

from sagepool_crds.space import EmbeddingSpace

_SCHEME: Final = "1."
_SIZE: Final = 64
_STEPS: Final = 32
"""Steps of a byte in one standard deviation of a sum: four of them fit."""
_SAME_DIRECTION: Final = 0.98
_SAME_NORM: Final = 0.02


def describe_space(vector: Sequence[float]) -> EmbeddingSpace:
    """The space that this embedding of the probe text belongs to.

    Raises:
        ValueError: the vector is empty, zero or not finite: it has no direction.
    """
    norm = math.hypot(*vector)
    if not math.isfinite(norm) or norm == 0:
        raise ValueError("the vector is empty, zero or not finite")
    sums = _project([x / norm for x in vector])
    sketch = bytes(max(-127, min(127, round(s * _STEPS))) & 0xFF for s in sums)
    return EmbeddingSpace(
        dimension=len(vector),
        norm=float(f"{norm:.3g}"),
        fingerprint=_SCHEME + base64.b64encode(sketch).decode(),
    )


def tell_apart(space: EmbeddingSpace, other: EmbeddingSpace) -> str:
    """What differs between two spaces, in words; empty when they are the same."""
    if space.dimension != other.dimension:
        return f"its dimension is {space.dimension}, not {other.dimension}"
    if abs(space.norm - other.norm) > _SAME_NORM * other.norm:
        return f"the probe text's embedding has length {space.norm:g}, not {other.norm:g}"
    likeness = _compare(space.fingerprint, other.fingerprint)
    if likeness < _SAME_DIRECTION:
        return f"the probe text's embedding points elsewhere (cosine {likeness:.2f})"
    return ""


def _project(vector: Sequence[float]) -> Iterable[float]:
    """64 sums, each with signs of its own; of a vector of length one, about normal."""
    width = (len(vector) + 7) // 8
    seed = f"sagepool embedding space {len(vector)}".encode()
    bits = hashlib.shake_256(seed).digest(width * _SIZE)
    total = math.fsum(vector)
    for row in range(_SIZE):
        signs = int.from_bytes(bits[row * width : (row + 1) * width])
        # The numbers whose sign is plus, twice, less all of them.
        yield 2 * sum(compress(vector, map(int, f"{signs:0{width * 8}b}"))) - total


def _compare(fingerprint: str, other: str) -> float:
    """The cosine of two sketches; 1 when they cannot be compared: no reason to part them."""
    if not (fingerprint.startswith(_SCHEME) and other.startswith(_SCHEME)):
        return 1.0
    a, b = _read(fingerprint), _read(other)
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def _read(fingerprint: str) -> list[int]:
    sketch = base64.b64decode(fingerprint.removeprefix(_SCHEME))
    return [byte - 256 if byte > 127 else byte for byte in sketch]
