"""The command line: `sage`, also installed as `sagepool`."""

import os
import sys
from typing import Final

_INTERRUPTED: Final = 130
_UNREAD: Final = 141


def main() -> None:
    """Run the command line and leave with its exit code."""
    _open_standard_streams()
    try:
        code = _run()
    except KeyboardInterrupt:  # before a command has begun
        code = _INTERRUPTED
    if code in (_INTERRUPTED, _UNREAD):
        # At its usual end Python waits for every thread, and one may wait for a server.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _run() -> int:
    try:
        import typer  # noqa: F401 - asked for first: `pip install sagepool` is the client alone
    except ImportError:
        sys.exit("sage: the command line is an extra: pip install 'sagepool[cli]'")
    from sagepool.cli.app import run

    return run(sys.argv[1:], os.path.basename(sys.argv[0]))


def _open_standard_streams() -> None:
    """Who starts us may have closed them (`>&-`, some daemons). Their numbers would go to the next
    files that are opened, a pool's lock among them, and children take these for their streams."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))
