"""Ports of this machine: which are free, and who has a busy one."""

import socket
from collections.abc import Iterable, Set
from itertools import chain
from random import Random
from typing import Final

from sagepool.laptop.errors import CommandError
from sagepool.laptop.home import Home
from sagepool.laptop.record import read_record

_FIRST: Final = 8100
_LAST: Final = 8999
"""Engines of pools listen in between, away from the ports that clients look at first."""


def is_free(host: str, port: int) -> bool:
    """Whether somebody can listen there now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True


def choose_port(
    taken: Set[int], preferred: Iterable[int] = (), *, rng: Random | None = None
) -> int:
    """A free port of the loopback interface that is not among `taken`.

    The search begins anywhere: two pools that start at the same time would else choose the same,
    before either listens.

    Raises:
        CommandError: all are busy.
    """
    begin = (rng or Random()).randint(_FIRST, _LAST)
    for port in chain(preferred, range(begin, _LAST + 1), range(_FIRST, begin)):
        if port not in taken and is_free("127.0.0.1", port):
            return port
    raise CommandError(f"no port from {_FIRST} to {_LAST} is free: stop what listens there")


def refuse_busy_port(host: str, port: int, home: Home) -> None:
    """Say who has the port.

    Raises:
        CommandError: the port is busy.
    """
    if is_free(host, port):
        return
    for kind in ("pool", "engine"):
        for place in home.places(kind):
            record = read_record(place)
            if place.is_taken() and record is not None and record.address.endswith(f":{port}"):
                raise CommandError(
                    f"port {port} is taken by your {kind} {place.name}: choose another with "
                    "--port, or stop that one first"
                )
    raise CommandError(
        f"port {port} of {host} is taken by another program, or may not be used: choose another "
        "with --port"
    )
