"""What engines of this user have been promised of the GPUs, whether they have taken it yet or not.

An engine that loads takes its memory over minutes. Who looked at the GPUs alone would give it away
meanwhile.
"""

import errno
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from sagepool.laptop.errors import CommandError
from sagepool.laptop.gpus import Gpu
from sagepool.laptop.home import Home, Place
from sagepool.laptop.record import read_record

_LIMIT_S: Final = 60.0
_POLL_S: Final = 0.1


def read_claims(home: Home, but: Place) -> Mapping[str, float]:
    """Shares of the GPUs' memory by GPU, promised to what runs in all places but one."""
    claims: Counter[str] = Counter()
    for place in (*home.places("pool"), *home.places("engine")):
        if place == but or not place.is_taken():
            continue
        record = read_record(place)
        for part in record.parts if record is not None else ():
            claims.update(part.gpus)
    return claims


def take_off(gpus: Sequence[Gpu], claims: Mapping[str, float]) -> list[Gpu]:
    """The GPUs with what is neither used nor promised.

    An engine that has loaded is counted once: it uses what it was promised.
    """
    return [
        replace(
            gpu,
            free_bytes=max(
                0, min(gpu.free_bytes, int(gpu.total_bytes * (1 - claims.get(gpu.uuid, 0.0))))
            ),
        )
        for gpu in gpus
    ]


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
