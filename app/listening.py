"""The socket that the server listens on."""

from __future__ import annotations

import socket
from typing import Final

_BACKLOG: Final = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        OSError: another program has the port, or this user may not take it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named asyncio switches off Nagle's algorithm, which holds back an answer's second packet for
    # 40 ms, until the first one's receipt.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
