"""Shares of a GPU's time for two kinds of work that both want it.

While an embedding call is under way the time is the embeddings', else it is the llm's. The account
of the embeddings grows by their share of every second and shrinks by the seconds that they use. Far
above zero it is their turn, far below it is the llm's; in between it is nobody's. The account is
only kept while both want the GPU: time that nobody else wants is free, and settles old debts.
"""

from typing import Final

from sagepool_crds.pool import Role

DEPTH_S: Final = 0.2
"""How much the embeddings can save up."""
DEBT_S: Final = 2.0
"""How far a long call can put them behind."""
_NARROW_S: Final = 0.05
"""Within this it is nobody's turn."""


class TimeShare:
    """The account of one GPU.

    Args:
        llm_ratio: share of the llm work, 0 to 1.
    """

    __slots__ = ("_at", "_is_used", "balance_s", "embedding_share", "is_contended")

    def __init__(self, llm_ratio: float) -> None:
        self.embedding_share = 1.0 - llm_ratio
        self.balance_s = 0.0
        """Time that the embeddings have not yet had; negative: they are ahead."""
        self._at = 0.0
        self.is_contended = False
        """Both kinds want the GPU, as of the last `advance`."""
        self._is_used = False

    def advance(self, now: float, *, is_contended: bool, is_used: bool) -> None:
        """Account for the time since the last call; to be called whenever something changes.

        Args:
            now: clock time.
            is_contended: from now on both kinds want the GPU.
            is_used: from now on an embedding call is under way.
        """
        elapsed = now - self._at
        self._at = now
        balance = self.balance_s
        if self.is_contended:
            balance += self.embedding_share * elapsed - (elapsed if self._is_used else 0.0)
            self.balance_s = min(DEPTH_S, max(-DEBT_S, balance))
        elif balance:
            self.balance_s = (
                max(0.0, balance - elapsed) if balance > 0 else min(0.0, balance + elapsed)
            )
        self.is_contended = is_contended
        self._is_used = is_used

    @property
    def is_strict(self) -> bool:
        """One kind has all of the time."""
        return not 0 < self.embedding_share < 1

    @property
    def turn(self) -> Role | None:
        """Whose turn it is; None: whoever comes."""
        if self.embedding_share <= 0:
            return "llm"
        if self.embedding_share >= 1:
            return "embedding"
        if self.balance_s >= _NARROW_S:
            return "embedding"
        return "llm" if self.balance_s <= -_NARROW_S else None
