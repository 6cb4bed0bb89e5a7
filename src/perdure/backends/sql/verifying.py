"""Comparing a database with what this perdure expects of it, whatever engine it is in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Dialect, Index, Inspector, Table, inspect, text

from perdure.backends.sql.tables import TRIGGERS, VERSION_TABLE, metadata

__all__ = ["differences", "integrity", "stray_rows", "unmeasured"]

_FIND_TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_schema WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE tgrelid = 'session_metrics'::regclass AND tgenabled <> 'D'",
}
_UNMEASURED = """
    SELECT count(*) FROM sessions WHERE archived_at IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM session_metrics WHERE session_id = id)
"""


def differences(connection: Connection) -> list[str]:
    """Every table, column, type, key and index that is missing or other than expected; foreign tables are let be.

    In the schema where the connection looks for names without one.
    """
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "version_table": VERSION_TABLE,
            "include_name": lambda name, kind, parents: kind != "table" or name in metadata.tables,
            "include_object": _is_expected,
        },
    )
    found = compare_metadata(context, metadata)
    entries = [entry for group in found for entry in (group if isinstance(group, list) else [group])]
    sentences = [sentence for entry in entries if (sentence := _sentence(entry, connection.dialect)) is not None]
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name in present:
            sentences += [*_key(inspector, table), *_numbering(inspector, table)]
            sentences += [*_collations(inspector, table), *_conditions(inspector, table)]
    return [*sentences, *_triggers(connection, present)]


def _is_expected(thing: Any, name: Any, kind: str, reflected: bool, compared: Any) -> bool:
    """Whether something of the metadata is for this engine; what is in the database always counts."""
    return reflected or kind != "foreign_key_constraint" or thing._ddl_if is None


def _sentence(entry: tuple[Any, ...], dialect: Dialect) -> str | None:  # noqa: C901 (one sentence for each kind of difference)
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
        case ("remove_constraint" | "remove_fk", constraint):
            return f"constraint {constraint.name} on {constraint.table.name} is not expected"
        case ("modify_type", _, table, column, _, present, expected):
            return f"column {table}.{column} has type {present} instead of {expected.compile(dialect=dialect)}"
        case ("modify_nullable", _, table, column, _, present, _):
            return f"column {table}.{column} {'allows' if present else 'forbids'} NULL"
        case ("modify_comment" | "add_table_comment" | "remove_table_comment", *_):
            return None  # for people
        case (kind, thing, *_):
            return f"{str(kind).replace('_', ' ')}: {thing}"
    raise AssertionError(entry)


def _key(inspector: Inspector, table: Table) -> Iterable[str]:
    """The primary key, which Alembic does not compare."""
    found = inspector.get_pk_constraint(table.name)["constrained_columns"]
    expected = [column.name for column in table.primary_key.columns]
    if found != expected:
        there = f"is ({', '.join(found)})" if found else "is missing"
        yield f"the primary key of {table.name} {there} instead of ({', '.join(expected)})"


def _numbering(inspector: Inspector, table: Table) -> Iterable[str]:
    """The column that numbers rows; in SQLite every whole number that is a key does."""
    numbered = table.autoincrement_column
    if numbered is None or inspector.dialect.name == "sqlite":
        return
    for column in inspector.get_columns(table.name):
        if column["name"] == numbered.name and not column.get("autoincrement"):
            yield f"column {table.name}.{numbered.name} is not numbered: it has no sequence for its default"


def _collations(inspector: Inspector, table: Table) -> Iterable[str]:
    """How text in keys is compared; Alembic does not look at that either."""
    there = {column["name"]: column["type"] for column in inspector.get_columns(table.name)}
    for column in table.columns:
        expected = getattr(column.type.dialect_impl(inspector.dialect), "collation", None)
        found = getattr(there.get(column.name), "collation", None)
        if expected is not None and column.name in there and found != expected:
            yield f"column {table.name}.{column.name} is compared by {found or 'the default'} instead of {expected}"


def _conditions(inspector: Inspector, table: Table) -> Iterable[str]:
    """Partial indices whose condition is another one."""
    dialect = inspector.dialect.name
    there = {index["name"]: index for index in inspector.get_indexes(table.name)}
    for index in sorted(table.indexes, key=_name):
        if index.name in there:
            found = there[index.name].get("dialect_options", {}).get(f"{dialect}_where")
            expected = index.dialect_options[dialect]["where"]
            if _words(found) != _words(expected):
                yield f"index {index.name} has the condition {found} instead of {expected}"


def _name(index: Index) -> str:
    return str(index.name)


def _triggers(connection: Connection, present: set[str]) -> list[str]:
    """The triggers that are missing, without which statistics would be wrong."""
    if "session_metrics" not in present:
        return []
    found = {row[0] for row in connection.execute(text(_FIND_TRIGGERS[connection.dialect.name]))}
    return [f"trigger {name} on session_metrics is missing" for name in TRIGGERS if name not in found]


def _words(condition: Any) -> str:
    return "" if condition is None else str(condition).lower().replace("sessions.", "").strip("() ")


def integrity(connection: Connection) -> list[str]:
    """What SQLite itself finds wrong with the file, and rows that hang in the air."""
    checked = [row[0] for row in connection.execute(text("PRAGMA integrity_check(20)")) if row[0] != "ok"]
    if checked or not metadata.tables.keys() <= set(inspect(connection).get_table_names()):
        return checked  # what else could be asked may not be answered any more
    broken = connection.execute(text("PRAGMA foreign_key_check")).fetchall()
    orphans = [f"{len(broken)} rows belong to no session, the first in {broken[0][0]}"] if broken else []
    return [*orphans, *stray_rows(connection, ["session_labels"]), *unmeasured(connection)]


def stray_rows(connection: Connection, tables: Iterable[str]) -> list[str]:
    """What belongs to no session, one sentence for each table that has such rows."""
    sentences = []
    for table in tables:
        found = connection.execute(
            text(f"SELECT count(*) FROM {table} WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE id = session_id)")
        ).scalar_one()
        if found:
            sentences.append(f"{found} {table.removeprefix('session_')} belong to no session")
    return sentences


def unmeasured(connection: Connection) -> list[str]:
    """Whether archived sessions do not count in statistics."""
    found = connection.execute(text(_UNMEASURED)).scalar_one()
    return [f"{found} archived sessions do not count in statistics"] if found else []
