"""A request's body that comes in more than one piece."""

from typing import Final

_SMALL_PIECE: Final = 1024


class RequestBody:
    """Pieces of a body, joined once.

    Small pieces are gathered: a list of one-byte chunks would take forty times the body's memory.

    Args:
        first: the first piece.
        second: the next one.
    """

    __slots__ = ("_pieces",)

    def __init__(self, first: bytes, second: bytes) -> None:
        self._pieces: list[bytes | bytearray] = [first]
        self.add(second)

    def add(self, piece: bytes) -> None:
        """The next piece has come."""
        pieces = self._pieces
        if len(piece) >= _SMALL_PIECE:
            pieces.append(piece)
            return
        last = pieces[-1]
        if isinstance(last, bytearray) and len(last) < 64 * _SMALL_PIECE:
            last += piece
        else:
            pieces.append(bytearray(piece))

    def take(self) -> bytes:
        """The whole body; the pieces are let go of."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body
