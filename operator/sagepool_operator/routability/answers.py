"""What routers answer when they are asked which instances they send to. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class RouterAnswer:
    """What a router has said."""

    instances: frozenset[str] = frozenset()
    """Those that it sends requests to."""
    error: str = ""
    """Why it could not be asked; empty when it could."""


Answers: TypeAlias = Mapping[str, RouterAnswer]
"""By the uid of the router's pod."""
