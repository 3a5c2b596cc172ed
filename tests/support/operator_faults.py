"""Cuts in the way between the operator and the API server, at a write of the test's choice."""

from typing import Any, Final, Literal, TypeAlias

from kube_fake import FakeKube
from sagepool_kube.errors import Unavailable

Loss: TypeAlias = Literal["the write is lost", "the answer is lost"]
"""What a cut takes with it: the server never sees the write, or does it and cannot say so."""

_WRITES: Final = ("create", "apply", "patch", "delete")


class Killed(BaseException):
    """The operator's process ends here."""


class CutApi:
    """A fake API server whose n-th write fails, once.

    With `kill` the caller dies of it (`Killed`); else it is told that the connection broke.
    """

    def __init__(self, kube: FakeKube, at: int, loss: Loss, *, kill: bool) -> None:
        self._kube = kube
        self._left = at
        self._loss = loss
        self._kill = kill

    @property
    def has_cut(self) -> bool:
        """Whether there have been so many writes."""
        return self._left <= 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._kube, name)
        if name not in _WRITES:
            return call

        async def write(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left != 0:
                return await call(*args, **kwargs)
            if self._loss == "the answer is lost":
                await call(*args, **kwargs)
            raise Killed if self._kill else Unavailable("connection reset by peer")

        return write
