"""Removing what is perdure's from a Postgres database."""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from perdure.backends.sql.postgres.statements import quoted
from perdure.backends.sql.postgres.verifying import expected_functions, functions_in
from perdure.backends.sql.tables import TRIGGERS, VERSION_TABLE, metadata

__all__ = ["drop_from"]

_SHARED = "public"
"""The schema that every database has is never perdure's own."""


def drop_from(connection: Connection, *, schema: str) -> None:
    """Drop triggers, functions and tables, and the schema too if nothing else is in it and the role may."""
    for trigger in TRIGGERS:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger} ON {quoted(schema)}.session_metrics")
    ours = expected_functions(connection, schema)
    for key, (address, _) in functions_in(connection, schema).items():
        if key in ours:
            connection.exec_driver_sql(f"DROP FUNCTION {address}")
    for table in reversed(metadata.sorted_tables):
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quoted(schema)}.{quoted(table.name)}")
    connection.exec_driver_sql(f"DROP TABLE {quoted(schema)}.{VERSION_TABLE}")
    if schema != _SHARED:
        _drop_if_empty(connection, schema)


def _drop_if_empty(connection: Connection, schema: str) -> None:
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"DROP SCHEMA {quoted(schema)} RESTRICT")
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in ("2BP01", "42501"):  # others' things in it; not the role's
            raise
