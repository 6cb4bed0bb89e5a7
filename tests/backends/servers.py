"""Servers as tests find them."""

from __future__ import annotations

from perdure.testing.servers import PostgresServer

__all__ = ["running"]


def running(server: PostgresServer) -> PostgresServer:
    """The server, which a test before may have left stopped or killed."""
    if server.stopped:
        server.resume()
    return server.start()
