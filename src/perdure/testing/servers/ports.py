"""Ports that nobody else is given meanwhile."""

from __future__ import annotations

import random
import socket

from perdure.testing.servers.errors import ServerError

__all__ = ["BUS_OFFSET", "HOST", "free_port"]

HOST = "127.0.0.1"

BUS_OFFSET = 10_000
"""From the port of a cluster's node to the one on which it talks with the others."""

# Systems give clients ports from 32,768 on (Linux) or 49,152 on. A client that tries again and again to reach a server
# that was killed is sooner or later given that very port, is connected with itself, and keeps the server from starting.
_FIRST, _LAST = 10_000, 19_999
_ATTEMPTS = 200


def free_port(*, with_bus: bool = False) -> int:
    """A port of 127.0.0.1 on which nobody listens, below those that systems give to clients."""
    for _ in range(_ATTEMPTS):
        port = random.randint(_FIRST, _LAST)
        if _is_free(port) and (not with_bus or _is_free(port + BUS_OFFSET)):
            return port
    raise ServerError(f"no free port found from {_FIRST} to {_LAST}")


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
        return True
