"""Embeddings by feature hashing: alike for texts that share words and parts of words. Pure.

Words (lower case, without a few very common ones and common endings) and their character
trigrams are hashed with a sign into the vector (Weinberger et al., "Feature hashing for large
scale multitask learning", 2009), weighted by the logarithm of their count, and the vector is
normalised to length one.
"""

import math
import re
import zlib
from collections import Counter
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+")
_COMMON: Final = frozenset(
    _WORD.findall(
        """
        a an and are as at be but by can do does for from had has have how i if in into is it its
        me my not of on or our so that the their them then there these they this to was we were
        what when where which who why will with you your
        """
    )
)
_ENDINGS: Final = ("ations", "ation", "ings", "ing", "ers", "er", "ies", "ed", "es", "s", "e", "y")
_TRIGRAM_WEIGHT: Final = 0.25


def embed(text: str, dimension: int) -> list[float]:
    """The embedding of a text: `dimension` numbers of Euclidean length one."""
    features: Counter[bytes] = Counter()
    words = [w for w in _WORD.findall(text.lower()) if w not in _COMMON]
    for word in words or [text]:
        stem = _stem(word)
        features[b"w" + stem.encode()] += 1
        padded = f"^{stem}$"
        for start in range(len(padded) - 2):
            features[b"t" + padded[start : start + 3].encode()] += 1
    vector = [0.0] * dimension
    for feature, count in features.items():
        digest = zlib.crc32(feature) * 0x9E3779B1 & 0xFFFFFFFF
        weight = 1.0 + math.log(count)
        if feature[0] == 0x74:  # "t", a trigram
            weight *= _TRIGRAM_WEIGHT
        vector[(digest >> 1) % dimension] += weight if digest & 1 else -weight
    return normalise(vector)


def normalise(vector: list[float]) -> list[float]:
    """The vector at length one; a zero vector becomes the first unit vector."""
    norm = math.sqrt(sum(x * x for x in vector))
    if norm == 0.0:
        return [1.0, *([0.0] * (len(vector) - 1))]
    return [x / norm for x in vector]


def cosine(a: list[float], b: list[float]) -> float:
    """Cosine of two vectors of length one."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
