"""What arguments and options may be, where the parser's own bounds do not say it."""

import math
import os
import re
from typing import Final

import typer

from sagepool.laptop.errors import NothingFound

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_RULE: Final = "write small letters, digits, - and ., for example rag"


def object_name(text: str) -> str:
    """A name of an object of a cluster; an option that is empty is not given.

    Raises:
        typer.BadParameter: it can be none.
    """
    if text and not _NAME.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is no name: {_RULE}")
    return text


def required_name(text: str) -> str:
    """`object_name` of what must be named: a path without a name would mean all objects.

    Raises:
        typer.BadParameter: it is empty, or can be no name.
    """
    if not text:
        raise typer.BadParameter(f"it is empty: {_RULE}")
    return object_name(text)


def not_empty(text: str) -> str:
    """A word; an empty file name, for one, would mean the folder that the command runs in.

    Raises:
        typer.BadParameter: it is empty.
    """
    if not text:
        raise typer.BadParameter("it is empty")
    return text


def existing_kubeconfig(text: str) -> str:
    """The file of a kubeconfig, before anything else is done; empty: not given.

    Raises:
        NothingFound: it is not there.
    """
    if text and not os.path.exists(os.path.expanduser(text)):
        raise NothingFound(f"there is no kubeconfig at {text}")
    return text


def finite(number: float | None) -> float | None:
    """A number; nan would pass every bound.

    Raises:
        typer.BadParameter: it is none.
    """
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter(f"{number} is no number that can be used")
    return number
