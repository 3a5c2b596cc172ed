"""Removes the models that a pool wants no longer, if no other pool wants them."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sagepool_downloader.errors import StillHeld
from sagepool_downloader.fetch import Wait
from sagepool_downloader.folder import ModelFolder, half_removed_names, removable_names

_logger: Final = logging.getLogger(__name__)
_LOOK_S: Final = 1.0
"""Between two looks whether a model that another process holds is free."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A model that has been removed."""

    name: str
    size_bytes: int


def prune_models(root: Path, pool: str, kept: Iterable[str], waiting: Wait) -> Iterator[Removed]:
    """Let go of every model of the pool but the `kept`, and remove those that no pool wants.

    Nothing is touched that was not fetched for a pool. Killed anywhere, it is gone on with by the
    next call.

    Raises:
        StillHeld: another process has held a model for all of the wait's limit.
        OSError: the volume refuses something.
    """
    until = waiting.clock() + waiting.limit_s
    gone = removable_names(root, pool) - frozenset(kept)
    left = gone | half_removed_names(root)
    while left:
        for name in sorted(left):
            folder = ModelFolder(root, name, pool)
            with folder.hold() as is_ours:
                if not is_ours:
                    continue
                left -= {name}
                folder.clear_removed()
                size_bytes = folder.let_go() if name in gone else None
            if size_bytes is not None:
                _logger.info("removed %s: %d bytes", name, size_bytes)
                yield Removed(name, size_bytes)
        if left:
            _pause(left, until, waiting)


def _pause(left: Iterable[str], until: float, waiting: Wait) -> None:
    if waiting.clock() >= until:
        raise StillHeld(
            f"other processes have held {', '.join(sorted(left))} for {waiting.limit_s:.0f} s: "
            "look at the pods that fetch or remove models on this volume"
        )
    waiting.sleep(_LOOK_S)
