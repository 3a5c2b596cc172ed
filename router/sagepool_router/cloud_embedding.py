"""Embeddings from the provider, checked before a byte goes to the client.

A vector from another space looks like any other: mixed into an index it spoils every search. What
the pool says to be the same model has at least to have the same length.
"""

from typing import TYPE_CHECKING, Final

import msgspec

from sagepool_router.backend import LiveBackend
from sagepool_router.bodies import read_wanted
from sagepool_router.cloud_delivery import CloudDelivery
from sagepool_router.embedding.answer import dimension, read_answer
from sagepool_router.errors import EngineFailed, RouterError
from sagepool_router.scheduling.scheduler import Call

if TYPE_CHECKING:
    from sagepool_router.dispatcher import Dispatcher
    from sagepool_router.exchange import Exchange

_OK: Final = 200


def _asked_dimensions(body: bytes) -> int | None:
    try:
        return read_wanted(body).dimensions
    except msgspec.DecodeError:
        return None  # no number: the provider's business


class CloudEmbedding(CloudDelivery):
    """A delivery that holds its answer back until it is complete and right.

    Args:
        exchange: whose request it is.
        dispatcher: the process' shared state.
        call: the provider's.
        body: what is sent.
        expected: length of the pool's own vectors; None: not known, any will do.
    """

    __slots__ = ("_expected", "_pieces", "_size")

    def __init__(
        self,
        exchange: "Exchange",
        dispatcher: "Dispatcher",
        call: Call[LiveBackend],
        body: bytes,
        expected: int | None,
    ) -> None:
        super().__init__(exchange, dispatcher, call, body)
        self._expected = expected
        self._pieces: list[bytes] = []
        self._size = 0

    def receive(self, data: bytes) -> None:
        """A part of the answer."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self._dispatcher.limits.max_batch_answer_bytes:
            self._exchange.fail(EngineFailed("the provider's answer is too large"))

    def finish(self) -> None:
        """The answer is complete."""
        connection = self._connection
        self._held = b"".join(self._pieces)
        if connection is not None and connection.status == _OK:
            error = self._find_error(self._held)
            if error is not None:
                self._connection = None
                self._exchange.fail(error)
                return
        super().finish()

    def _find_error(self, body: bytes) -> RouterError | None:
        if self._expected is None:
            return None
        expected = _asked_dimensions(self._body) or self._expected
        try:
            answer = read_answer(body, self.call.work.texts)
        except RouterError as error:
            return error
        found = dimension(answer.embeddings[0])
        if found == expected:
            return None
        return EngineFailed(
            f"the provider's embeddings have {found} dimensions, those of the pool's "
            f"{self.call.lane.model} have {expected}: they are no substitute; correct "
            "cloud.models or cloud.sameEmbeddingSpace",
            "other_embedding_space",
        )
