"""What the bench's commands have in common: how they end."""

import signal
import sys
from collections.abc import Callable
from typing import Final

from bench.errors import BenchError
from sagepool_cluster.errors import ClusterError

STOPPED: Final = 130


def run_to_end(measure: Callable[[], int]) -> int:
    """Run a measurement; returns its exit status, 1 with a sentence on what is wrong, or 130.

    SIGINT and SIGTERM end it, and what it has started before it.
    """
    # SIGINT too: a shell that starts us in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return measure()
    except (BenchError, ClusterError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return STOPPED
