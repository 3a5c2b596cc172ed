"""Writing the one request that carries the texts of many. Pure."""

from collections.abc import Sequence

import msgspec


def write_request(model: str, parameters: bytes, texts: Sequence[bytes]) -> bytes:
    """The body of an embedding request.

    Args:
        model: as the engine knows it.
        parameters: of `EmbeddingRequest`, the same for all that are merged.
        texts: at least one, in the order in which the answer will be cut.
    """
    return b'{"model":%b,%b"input":[%b]}' % (
        msgspec.json.encode(model),
        parameters,
        b",".join(texts),
    )
