"""Ports of this machine: which are free, and who has a busy one."""

import socket
from collections.abc import Iterable, Set
from itertools import chain
from typing import Final

from sagepool.laptop.errors import CommandError, WrongUse
from sagepool.laptop.home import Home
from sagepool.laptop.record import read_record

_FIRST: Final = 8100
_LAST: Final = 8999
"""Engines of pools listen in between, away from the ports that clients look at first."""


class PortClaim:
    """A port that no other pool of this machine takes, of whichever user, until it is released or
    this process ends.

    vLLM loads for minutes before it listens: all that time its port looks free. What is claimed is
    a name in the kernel's abstract namespace, which is one for a network, as ports are.

    Args:
        port: which.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._name.bind(f"\0sagepool/port/{port}")
        except OSError:
            self._name.close()

    @property
    def is_held(self) -> bool:
        """Whether it is ours; False: another pool has it."""
        return self._name.fileno() >= 0

    def keep(self) -> None:
        """Leave its end to the kernel: it comes with this process."""
        self._name.detach()

    def release(self) -> None:
        """Let others have it."""
        self._name.close()


def can_listen(host: str, port: int) -> bool:
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


def claim_port(taken: Set[int], preferred: Iterable[int] = ()) -> PortClaim:
    """Claim a free port of the loopback interface that is not among `taken`.

    Raises:
        CommandError: all are busy.
    """
    for port in chain(preferred, range(_FIRST, _LAST + 1)):
        if port in taken or not can_listen("127.0.0.1", port):
            continue
        claim = PortClaim(port)
        if claim.is_held:
            return claim
    raise CommandError(f"no port from {_FIRST} to {_LAST} is free: stop what listens there")


def choose_port(taken: Set[int], preferred: Iterable[int] = ()) -> int:
    """Claim a free port until this process ends. Raises as `claim_port` does."""
    claim = claim_port(taken, preferred)
    claim.keep()
    return claim.port


def refuse_busy_port(host: str, port: int, home: Home) -> None:
    """Say who has the port.

    Raises:
        WrongUse: the host is no address of this machine.
        CommandError: the port is busy.
    """
    if not can_listen(host, 0):
        raise WrongUse(
            f"--host is {host!r}, which is no address of this machine: write 127.0.0.1, or 0.0.0.0 "
            "for all that it has"
        )
    claim = PortClaim(port)
    is_ours = claim.is_held
    claim.release()
    if is_ours and can_listen(host, port):
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
