"""What engines of this user have been promised of the GPUs, whether they have taken it yet or not.

An engine that loads takes its memory over minutes. Who looked at the GPUs alone would give it away
meanwhile.
"""

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from sagepool.laptop.errors import CommandError
from sagepool.laptop.gpus import Gpu
from sagepool.laptop.home import Home, Place
from sagepool.laptop.process import session_members
from sagepool.laptop.record import Record, read_record

_LIMIT_S: Final = 60.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Claim:
    """What a pool, or an engine alone, was promised of one GPU."""

    gpu: str
    """Its UUID."""
    share: float
    """Of the GPU's memory, by all of its engines there."""
    loading: float
    """How much of that by engines that are not ready."""
    pids: frozenset[int]
    """Processes of all of its engines."""


def read_claims(home: Home, but: Place) -> list[Claim]:
    """What was promised to whatever runs in all places but one."""
    claims: list[Claim] = []
    for place in (*home.places("pool"), *home.places("engine")):
        if place != but and place.is_taken() and (record := read_record(place)) is not None:
            claims += _claims_of(record)
    return claims


def _claims_of(record: Record) -> Iterator[Claim]:
    gpus = {gpu for part in record.parts for gpu in part.gpus}
    if not gpus:
        return
    leaders = [part.process for part in record.parts if part.process is not None]
    pids = frozenset(member.pid for leader in leaders for member in session_members(leader))
    for gpu in sorted(gpus):
        shares = [(part.gpus.get(gpu, 0.0), part.phase) for part in record.parts]
        yield Claim(
            gpu,
            share=sum(share for share, _ in shares),
            loading=sum(share for share, phase in shares if phase != "ready"),
            pids=pids,
        )


def take_off(gpus: Sequence[Gpu], claims: Sequence[Claim]) -> list[Gpu]:
    """The GPUs with what is neither used nor promised. Pure."""
    return [replace(gpu, free_bytes=_left_bytes(gpu, claims)) for gpu in gpus]


def _left_bytes(gpu: Gpu, claims: Sequence[Claim]) -> int:
    """What is free, less what is promised and not yet taken.

    Nor is it ever more than what is promised to nobody: an engine that is ready may take the rest
    of its share later, and not every driver tells what it has taken.
    """
    on_it = [claim for claim in claims if claim.gpu == gpu.uuid]
    pending_bytes = sum(_pending_bytes(gpu, claim) for claim in on_it)
    unpromised_bytes = int(gpu.total_bytes * (1 - sum(claim.share for claim in on_it)))
    return max(0, min(gpu.free_bytes - pending_bytes, unpromised_bytes))


def _pending_bytes(gpu: Gpu, claim: Claim) -> int:
    """What will be taken yet."""
    taken = [gpu.used_bytes[pid] for pid in claim.pids if pid in gpu.used_bytes]
    if not taken:
        # None of it, or the driver does not tell: in a container it may count processes otherwise.
        return int(gpu.total_bytes * claim.loading)
    return max(0, int(gpu.total_bytes * claim.share) - sum(taken))


@contextmanager
def one_start_at_a_time(
    limit_s: float = _LIMIT_S,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Inside, no other start of this user looks at the GPUs.

    What is held is a name in the kernel's abstract namespace: it leaves no file, and ends with the
    process.

    Args:
        limit_s: how long another start is waited for.
        clock: seconds, monotonic.
        sleep: waits that many seconds.

    Raises:
        CommandError: another start took longer.
    """
    until = clock() + limit_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as name:
        while not _take(name, f"\0sagepool/start/{os.getuid()}"):
            if clock() >= until:
                raise CommandError(
                    f"another start of yours has been choosing its GPUs for {limit_s:g} s: try "
                    "again when it has"
                )
            sleep(_POLL_S)
        yield


def _take(name: socket.socket, wanted: str) -> bool:
    try:
        name.bind(wanted)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    return True
