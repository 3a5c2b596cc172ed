"""What asyncio's transports do not offer."""

import asyncio
import socket
import struct
from typing import Final

_NO_LINGER: Final = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Close so that the peer gets an error and not an end.

    uvloop's abort alone sends a FIN, which ends a body without a length as if it were whole.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
