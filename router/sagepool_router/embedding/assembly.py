"""One caller's embeddings, as they come in from the calls that carried its texts."""

from sagepool_router.embedding.answer import EmbeddingAnswer, write_answer
from sagepool_router.embedding.request import EmbeddingRequest
from sagepool_router.embedding.usage_shares import split_usage


class Assembly:
    """Collects what one request gets.

    Args:
        request: of the caller.
    """

    __slots__ = ("_embeddings", "_missing", "prompt_tokens", "request", "total_tokens")

    def __init__(self, request: EmbeddingRequest) -> None:
        self.request = request
        self._embeddings: list[bytes] = [b""] * len(request.texts)
        self._missing = len(request.texts)
        self.prompt_tokens = 0
        self.total_tokens = 0

    def add(self, begin: int, embeddings: list[bytes], prompt_tokens: int, total: int) -> bool:
        """Take the embeddings of the texts from `begin` on; True when none is missing any more."""
        self._embeddings[begin : begin + len(embeddings)] = embeddings
        self._missing -= len(embeddings)
        self.prompt_tokens += prompt_tokens
        self.total_tokens += total
        return not self._missing

    def write(self, answer: EmbeddingAnswer, answer_id: str) -> bytes:
        """The body of the caller's answer.

        Args:
            answer: one of those that its texts came back in.
            answer_id: the caller's own.
        """
        return write_answer(
            answer.model,
            self._embeddings,
            self.prompt_tokens,
            self.total_tokens,
            answer.extras(answer_id),
        )


def shares(answer: EmbeddingAnswer, weights: list[int]) -> list[tuple[int, int]]:
    """Prompt and total tokens of each caller of a call, by the estimated tokens of its texts."""
    return list(
        zip(
            split_usage(answer.prompt_tokens, weights),
            split_usage(answer.total_tokens, weights),
            strict=True,
        )
    )
