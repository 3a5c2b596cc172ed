"""Which pools run on this machine, for who only wants to use one. The standard library alone."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagepool.laptop.home import Home


@dataclass(frozen=True, slots=True)
class RunningPool:
    """A pool of this user that has a supervisor."""

    name: str
    address: str
    """Base URL of its router, without /v1."""


def find_running(environ: Mapping[str, str]) -> tuple[Path, list[RunningPool]]:
    """The folder where this user's pools are, and those that run, by name.

    What a crash or a reboot has left does not run: nobody holds its lock.
    """
    home = Home.of(environ)
    found = []
    with contextlib.suppress(OSError):  # a home that cannot be read has no pools for us
        for place in home.places("pool"):
            if place.is_taken():
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    record = json.loads(place.record.read_bytes())
                    found.append(RunningPool(place.name, str(record["address"])))
    return home.folder, found
