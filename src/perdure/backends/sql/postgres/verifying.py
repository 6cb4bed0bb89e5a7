"""Comparing a schema in Postgres with what this perdure expects of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Connection, inspect

from perdure.backends.sql.migrations.functions import CURRENT, functions_of
from perdure.backends.sql.tables import metadata
from perdure.backends.sql.verifying import differences, stray_rows, unmeasured

__all__ = ["differences_in", "functions_in", "look_in"]

_FUNCTIONS = """
    SELECT p.oid::regprocedure::text, p.proname, pg_get_function_identity_arguments(p.oid), pg_get_functiondef(p.oid)
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = $1 AND p.prokind = 'f'
"""

_BROKEN_INDICES = """
    SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND NOT (i.indisvalid AND i.indisready) ORDER BY 1
"""

_HEAD = re.compile(r"CREATE (?:OR REPLACE )?FUNCTION (?P<head>.*?)AS \$function\$(?P<body>.*)\$function\$", re.DOTALL)


def differences_in(connection: Connection, *, schema: str) -> list[str]:
    """Every table, column, type, key, index and function that is not as expected, and rows that hang in the air."""
    look_in(connection, schema)
    found = [*differences(connection), *_broken_indices(connection, schema), *_functions(connection, schema)]
    if not metadata.tables.keys() <= set(inspect(connection).get_table_names()):
        return found
    connection.exec_driver_sql("SET LOCAL enable_seqscan TO on")
    return [
        *found,
        *stray_rows(connection, ["session_entries", "session_queries", "session_labels"]),
        *unmeasured(connection),
    ]


def look_in(connection: Connection, schema: str) -> None:
    """Let names without a schema mean those of this one, until the transaction ends; other names are given in full."""
    preparer = connection.dialect.identifier_preparer
    connection.exec_driver_sql(f"SET LOCAL search_path TO {preparer.quote(schema)}")
    connection.dialect.default_schema_name = schema


def functions_in(connection: Connection, schema: str) -> dict[tuple[str, str], tuple[str, str]]:
    """How a function is addressed, and the statement that makes it, by its name and arguments."""
    connection.exec_driver_sql("SET LOCAL search_path TO pg_catalog")  # so that the types of tables are told in full
    rows = connection.exec_driver_sql(_FUNCTIONS, (schema,)).fetchall()
    look_in(connection, schema)
    return {(name, arguments): (address, statement) for address, name, arguments, statement in rows}


def expected_functions(connection: Connection, schema: str) -> dict[tuple[str, str], str]:
    """The statement that makes each function, by its name and arguments."""
    asked = "SELECT quote_ident($1), quote_literal($1)"
    quoted, quoted_text = connection.exec_driver_sql(asked, (schema,)).one()
    statements = functions_of(CURRENT, schema=quoted, schema_text=quoted_text)
    return {(name, _arguments(statement)): statement for name, statement in statements.items()}


def _functions(connection: Connection, schema: str) -> Iterator[str]:
    there = functions_in(connection, schema)
    for (name, arguments), statement in expected_functions(connection, schema).items():
        if (name, arguments) not in there:
            yield f"function {name}({arguments}) is missing"
        elif _normal(there[name, arguments][1]) != _normal(statement):
            yield f"function {name} is another one than this perdure expects"


def _broken_indices(connection: Connection, schema: str) -> Iterator[str]:
    for (name,) in connection.exec_driver_sql(_BROKEN_INDICES, (schema,)):
        yield f"index {name} was not built to its end; run REINDEX INDEX"


def _arguments(statement: str) -> str:
    found = re.search(r"CREATE FUNCTION [^(]*\((?P<arguments>[^)]*)\)", statement)
    assert found is not None
    return found["arguments"]


def _normal(statement: str) -> tuple[str, str]:
    """Head and body; of the head, spaces and line ends do not matter."""
    found = _HEAD.search(statement)
    assert found is not None, statement
    return " ".join(found["head"].split()), found["body"]
