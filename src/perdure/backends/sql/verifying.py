"""Comparing a database with what this perdure expects of it."""

from __future__ import annotations

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from perdure.backends.sql.tables import VERSION_TABLE, metadata

__all__ = ["differences", "integrity"]

_TRIGGERS = ("session_metrics_came", "session_metrics_moved", "session_metrics_went")
_UNMEASURED = """
    SELECT count(*) FROM sessions
    WHERE archived_at IS NOT NULL AND id NOT IN (SELECT session_id FROM session_metrics)
"""


def differences(connection: Connection) -> list[str]:
    """Every table, column, type and index that is missing or other than expected; foreign tables are let be."""
    present = set(inspect(connection).get_table_names())
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "version_table": VERSION_TABLE,
            "include_name": lambda name, kind, parents: kind != "table" or name in metadata.tables,
        },
    )
    found = compare_metadata(context, metadata)
    sentences = [_sentence(entry) for group in found for entry in (group if isinstance(group, list) else [group])]
    return sentences + _partial_indices(connection, present) + _triggers(connection, present)


def _sentence(entry: tuple[Any, ...]) -> str:
    match entry:
        case ("add_table", table):
            return f"table {table.name} is missing"
        case ("add_column", _, table, column):
            return f"column {table}.{column.name} is missing"
        case ("remove_column", _, table, column):
            return f"column {table}.{column.name} is not expected"
        case ("add_index", index):
            return f"index {index.name} on {index.table.name} is missing"
        case ("remove_index", index):
            return f"index {index.name} on {index.table.name} is not expected"
        case ("modify_type", _, table, column, _, present, expected):
            return f"column {table}.{column} has type {present} instead of {expected}"
        case ("modify_nullable", _, table, column, _, present, _):
            return f"column {table}.{column} {'allows' if present else 'forbids'} NULL"
        case (kind, thing, *_):
            return f"{str(kind).replace('_', ' ')}: {thing}"
    raise AssertionError(entry)


def _partial_indices(connection: Connection, present: set[str]) -> list[str]:
    """Partial indices whose condition is another one, which Alembic does not compare."""
    sentences = []
    for table in metadata.sorted_tables:
        if table.name not in present:
            continue
        there = {index["name"]: index for index in inspect(connection).get_indexes(table.name)}
        for index in table.indexes:
            if index.name in there:
                found = there[index.name].get("dialect_options", {}).get("sqlite_where")
                expected = index.dialect_options["sqlite"]["where"]
                if _words(found) != _words(expected):
                    sentences.append(f"index {index.name} has the condition {found} instead of {expected}")
    return sentences


def _triggers(connection: Connection, present: set[str]) -> list[str]:
    """The triggers that are missing, without which statistics would be wrong."""
    if "session_metrics" not in present:
        return []
    found = {row[0] for row in connection.execute(text("SELECT name FROM sqlite_schema WHERE type = 'trigger'"))}
    return [f"trigger {name} on session_metrics is missing" for name in _TRIGGERS if name not in found]


def _words(condition: Any) -> str:
    return "" if condition is None else str(condition).lower().replace("sessions.", "").strip("() ")


def integrity(connection: Connection) -> list[str]:
    """What SQLite itself finds wrong with the file, and rows that hang in the air."""
    checked = [row[0] for row in connection.execute(text("PRAGMA integrity_check(20)")) if row[0] != "ok"]
    if checked or not metadata.tables.keys() <= set(inspect(connection).get_table_names()):
        return checked  # what else could be asked may not be answered any more
    broken = connection.execute(text("PRAGMA foreign_key_check")).fetchall()
    orphans = [f"{len(broken)} rows belong to no session, the first in {broken[0][0]}"] if broken else []
    stray = connection.execute(
        text("SELECT count(*) FROM session_labels WHERE session_id NOT IN (SELECT id FROM sessions)")
    ).scalar_one()
    unmeasured = connection.execute(text(_UNMEASURED)).scalar_one()
    return [
        *orphans,
        *([f"{stray} labels belong to no session"] if stray else []),
        *([f"{unmeasured} archived sessions do not count in statistics"] if unmeasured else []),
    ]
