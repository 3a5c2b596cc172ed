"""Which requests are worth keeping together, and by what."""

from collections.abc import Sequence
from typing import Final
from zlib import crc32

REMEMBERED: Final = 32768
"""Fingerprints in one generation."""


class Affinity:
    """Gives requests that will find something in an engine's prefix cache the same key.

    A session is the key of its turns, even where their prefix is shared by others. The prompt of
    a conversation grows with each turn, and the history is in one engine's cache only; a shared
    system prompt is soon in every engine's. By prefix, a conversation would move about among all
    the instances that a hot prefix spills over to. What this gives up: with many long system
    prompts and caches too small for all of them, prefixes would be the better key.

    Without a session the longest beginning of the prompt that has come before is the key: of a
    shared system prompt with a question of one's own, the system prompt; of a prompt that is
    repeated whole, all of it. What nobody repeats gains nothing from a fixed place and is better
    off on the least loaded instance. Fingerprints are remembered in two generations, so that one
    that returns within `size` others is known, none is remembered past twice as many, and
    forgetting costs no order.
    """

    __slots__ = ("_older", "_recent", "_size")

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._recent: set[int] = set()
        self._older: set[int] = set()

    def __len__(self) -> int:
        """Fingerprints remembered: at most two generations of them."""
        return len(self._recent) + len(self._older)

    def key(self, fingerprints: Sequence[int], session: str | None) -> int | None:
        """What to place a request by; None: by load alone.

        Equal in all routers, for a session at once and for a prefix when each has met it. An
        empty session is none.

        Args:
            fingerprints: of the prompt's beginnings, the longest last.
            session: what the request belongs to, in the client's words.
        """
        if session:
            return crc32(session.encode("utf-8", "surrogatepass"))
        recent, older = self._recent, self._older
        key = None
        for fingerprint in reversed(fingerprints):
            if fingerprint in recent:
                # whoever has recorded it has recorded the shorter ones too
                return fingerprint if key is None else key
            if key is None and fingerprint in older:
                key = fingerprint
            if len(recent) >= self._size:
                self._older = older = recent
                self._recent = recent = set()
            recent.add(fingerprint)
        return key
