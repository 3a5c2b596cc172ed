"""The program of a pair's probes: whether both engines answer their health check.

It is handed to the container's own Python as text (`python3 -c`); its arguments are two ports. What
it prints the kubelet puts into its Event: which of the two it is. It runs every few seconds beside
engines that need the CPU: importing an HTTP client would be most of its work.
"""

import socket
import sys
from collections.abc import Sequence
from typing import Final

_NAMES: Final = ("chat", "embedding")
LIMIT_S: Final = 4.0
_REQUEST: Final = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def problem_of(port: int) -> str:
    """What is wrong with the engine on that port; empty when nothing is."""
    try:
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
            connection.sendall(_REQUEST)
            # The first bytes are the status line, and come in one piece.
            words = connection.recv(64).split()
    except OSError as error:
        return f"port {port}: {error}"
    status = words[1].decode(errors="replace") if len(words) > 1 else "nothing"
    return "" if status == "200" else f"port {port}: /health answers {status}"


def main(ports: Sequence[str]) -> int:
    """0 when both are well, else 1; each that is not gets a line."""
    found = [(name, problem_of(int(port))) for name, port in zip(_NAMES, ports, strict=True)]
    for name, problem in found:
        if problem:
            print(f"{name}: {problem}")
    return 1 if any(problem for _, problem in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
