"""A key-value cache in blocks of 16 tokens with reuse of prefixes, as in vLLM. Pure.

A full block is known by the hash of its tokens and of all before them (vLLM's automatic prefix
caching); blocks that no running sequence holds stay until their place is needed, least recently
used first.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

BLOCK_TOKENS: Final = 16


@dataclass(frozen=True, slots=True)
class Allocation:
    """The blocks of one sequence."""

    shared: tuple[int, ...]
    """Hashes of its full prompt blocks."""
    own: int
    """Further blocks, for the rest of the prompt and the answer."""
    cached_tokens: int
    """Tokens of the prompt that were there already."""


class BlockCache:
    """The blocks of one engine."""

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._held: dict[int, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict()
        """Cached blocks that nobody holds, least recently used first."""
        self._own = 0
        self.queried_tokens = 0
        self.hit_tokens = 0

    @property
    def usage(self) -> float:
        """Share of the blocks that running sequences hold."""
        return (len(self._held) + self._own) / self._blocks

    def fits(self, tokens: int) -> bool:
        """Whether a sequence of so many tokens could ever run."""
        return -(-tokens // BLOCK_TOKENS) <= self._blocks

    def allocate(self, prompt: Sequence[int], max_tokens: int) -> Allocation | None:
        """Take blocks for a prompt and its answer; None while there are not enough."""
        hashes = _block_hashes(prompt)
        total = -(-(len(prompt) + max_tokens) // BLOCK_TOKENS)
        new = [h for h in hashes if h not in self._held]
        own = total - len(hashes)
        if len(self._held) + len(new) + self._own + own > self._blocks:
            return None
        hits = 0
        for block in hashes:
            if block not in self._held and block not in self._free:
                break
            hits += 1
        for block in hashes:
            self._free.pop(block, None)
            self._held[block] = self._held.get(block, 0) + 1
        self._own += own
        while self._free and len(self._held) + self._own + len(self._free) > self._blocks:
            self._free.popitem(last=False)
        # the last token is always computed: it gives the first token of the answer
        cached = min(hits * BLOCK_TOKENS, max(len(prompt) - 1, 0))
        self.queried_tokens += len(prompt)
        self.hit_tokens += cached
        return Allocation(tuple(hashes), own, cached)

    def release(self, allocation: Allocation) -> None:
        """Give the blocks back; the full ones of the prompt stay cached."""
        self._own -= allocation.own
        for block in reversed(allocation.shared):
            self._held[block] -= 1
            if not self._held[block]:
                del self._held[block]
                self._free[block] = None

    def reset(self) -> None:
        """Forget every block that nobody holds."""
        self._free.clear()


def _block_hashes(tokens: Sequence[int]) -> list[int]:
    hashes = []
    previous = 0
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        previous = hash((previous, *tokens[start : start + BLOCK_TOKENS]))
        hashes.append(previous)
    return hashes
