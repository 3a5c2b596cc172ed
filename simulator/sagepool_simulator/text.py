"""Tokens and answers of a model that does not exist. Pure.

A token is a run of up to five letters or digits, or one other visible character: close to what
real tokenizers make of English, and the same everywhere.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

_TOKEN: Final = re.compile(r"[^\W_]{1,5}|[^\s\w]|_")
# Words of one token each, so that an answer has as many tokens as it counts.
_WORDS: Final = tuple(
    re.findall(
        r"\w+",
        """
        the pool keeps all of them busy and sends each call where it waits least while one eye is
        on the pods and notes what moved so that every model stays ready for who asks next with a
        short queue warm cache and an even flow of words
        """,
    )
)


def tokenize(text: str) -> list[int]:
    """Token ids of a text."""
    return [zlib.crc32(token.encode()) & 0xFFFF for token in _TOKEN.findall(text)]


def count_tokens(text: str) -> int:
    """Number of tokens of a text; at least one for a text that is not empty."""
    return len(_TOKEN.findall(text)) or (1 if text else 0)


def answer_words(prompt: Sequence[int], count: int) -> Iterator[str]:
    """An answer of `count` tokens that depends on the prompt alone, a piece a token."""
    state = zlib.crc32(b"".join(token.to_bytes(4, "little") for token in prompt[-64:]))
    for index in range(count):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        word = _WORDS[state % len(_WORDS)]
        yield word if index == 0 else f" {word}"
