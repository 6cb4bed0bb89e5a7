"""Between the rows of `sessions` and `StoredSession`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from perdure.backends.sql.tables import sessions
from perdure.models import StoredSession
from perdure.models.times import from_micros, to_micros

__all__ = ["COLUMNS", "facts_of", "read_row", "row_of"]

COLUMNS = [column for column in sessions.columns if column.name != "due_at"]
"""What is selected of a session, in the order that `read_row` takes."""


def read_row(row: Sequence[Any]) -> StoredSession:
    """The facts in a row of `COLUMNS`, without sections and queries."""
    first, last = row[13], row[14]
    return StoredSession(
        UUID(bytes=row[0]),
        row[1],
        row[2],
        tuple(from_json(row[3])),
        tuple(from_json(row[4])),
        from_micros(row[5]),
        from_micros(row[6]),
        from_micros(row[7]),
        None if row[8] is None else from_micros(row[8]),
        row[9],
        row[10],
        row[11],
        row[12],
        None if first is None else from_micros(first),
        None if last is None else from_micros(last),
        row[15],
        row[16],
        row[17],
    )


def row_of(session: StoredSession) -> dict[str, Any]:
    """Every column but `due_at`, by name."""
    archived = session.archived_at
    return {
        "user_id": session.user_id,
        "type": session.type,
        "assets": to_json(session.assets).decode(),
        "tags": to_json(session.tags).decode(),
        "created_at": to_micros(session.created_at),
        "expires_at": to_micros(session.expires_at),
        "archived_at": None if archived is None else to_micros(archived),
        **facts_of(session),
    }


def facts_of(session: StoredSession) -> dict[str, Any]:
    """The columns that every change may touch, and the id."""
    first, last = session.first_query_at, session.last_query_at
    return {
        "id": session.id.bytes,
        "last_accessed_at": to_micros(session.last_accessed_at),
        "version": session.version,
        "head": session.head,
        "total_queries": session.total_queries,
        "cache_hits": session.cache_hits,
        "first_query_at": None if first is None else to_micros(first),
        "last_query_at": None if last is None else to_micros(last),
        "state_bytes": session.state_bytes,
        "history_bytes": session.history_bytes,
        "writers": session.writers,
    }
