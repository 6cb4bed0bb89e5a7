"""Servers as tests find them."""

from __future__ import annotations

from perdure.backends.sql.tables import metadata
from perdure.testing.servers import PostgresServer

__all__ = ["EMPTY", "TRUNCATE", "running"]

TRUNCATE = "TRUNCATE " + ", ".join(f"perdure.{name}" for name in metadata.tables)
"""Empty tables, as new ones are."""

_DELETE = " ".join(f"DELETE FROM perdure.{name};" for name in sorted(metadata.tables))
EMPTY = f"DO $$ BEGIN {_DELETE} END $$"
"""Tables with nothing in them, a third of the time; what the server knows of them from before stays."""


def running(server: PostgresServer) -> PostgresServer:
    """The server, which a test before may have left stopped or killed."""
    if server.stopped:
        server.resume()
    return server.start()
