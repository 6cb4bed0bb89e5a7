"""Servers as tests find them."""

from __future__ import annotations

import asyncio

from perdure.backends.sql.postgres import PostgresBackend
from perdure.backends.sql.tables import metadata
from perdure.testing.plugin import running
from perdure.testing.servers import PostgresServer

__all__ = ["EMPTY", "TRUNCATE", "with_schema"]

TRUNCATE = "TRUNCATE " + ", ".join(f"perdure.{name}" for name in metadata.tables)
"""Empty tables, as new ones are."""

_DELETE = " ".join(f"DELETE FROM perdure.{name};" for name in sorted(metadata.tables))
EMPTY = f"DO $$ BEGIN {_DELETE} END $$"
"""Tables with nothing in them, a third of the time; what the server knows of them from before stays."""


def with_schema(server: PostgresServer, database: str) -> str:
    """The URL of a database of that name with the schema in it, made anew."""
    url = running(server).clear(database)
    asyncio.run(PostgresBackend(url).schema.create())
    return url
