"""What archived sessions count, written to SQLite in the transaction that archives them.

Triggers note each row that comes or goes in `session_metrics_changes`, so that nothing that writes rows can leave the
roll-up wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from perdure.backends.sql.rows import metrics_row
from perdure.backends.sql.statements import SQL
from perdure.models import Measured, StoredSession

__all__ = ["forget_metrics", "put_metrics", "record_in"]


def put_metrics(connection: sqlite3.Connection, session: StoredSession) -> None:
    """Keep what an archived session counts, given with all its queries, in place of what it counted before."""
    assert session.archived_at is not None
    connection.execute(SQL.put_metrics, _row_of(Measured.of(session, now=session.archived_at)))


def forget_metrics(connection: sqlite3.Connection, session_id: UUID, *, owner: str | None = None) -> None:
    """The session counts no longer; nothing happens where it is not `owner`'s."""
    connection.execute(SQL.forget_metrics, {"session_id": session_id.bytes, "owner": owner})


def record_in(connection: sqlite3.Connection, *, sessions: Sequence[StoredSession], at: datetime) -> list[bool]:
    """See `SessionBackend.record`."""
    return [_record_one(connection, session, at) for session in sessions]


def _record_one(connection: sqlite3.Connection, session: StoredSession, at: datetime) -> bool:
    key = {"id": session.id.bytes, "session_id": session.id.bytes}
    if connection.execute(SQL.select_tombstone, key).fetchone() is not None:
        return False
    if connection.execute(SQL.select_copy, key).fetchone() is None:
        archived = replace(session, archived_at=at if session.archived_at is None else session.archived_at)
        connection.execute(SQL.put_newer_metrics, _row_of(Measured.of(archived, now=at)))
    return True


def _row_of(measured: Measured) -> dict[str, Any]:
    """The row of `session_metrics`, as SQLite takes it."""
    row = metrics_row(measured)
    written = {name: to_json(row[name]).decode() for name in ("assets", "tags", "counts")}
    return {**row, **written, "session_id": measured.facts.id.bytes}
