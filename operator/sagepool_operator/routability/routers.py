"""The routers that are asked which instances they send to, and what they have answered. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class RouterPod:
    """A router that clients reach."""

    name: str
    uid: str
    """Of its pod."""
    url: str
    """Of its admin port."""


@dataclass(frozen=True, slots=True)
class RouterAnswer:
    """What a router has said."""

    instances: frozenset[str] = frozenset()
    """Those that it sends requests to."""
    error: str = ""
    """Why it could not be asked; empty when it could."""


Answers: TypeAlias = Mapping[str, RouterAnswer]
"""By the uid of the router's pod."""
