"""Reading from SQLite: functions of a connection, each run whole on the database's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import structlog

from perdure.backends.cursors import SortKey, write_cursor
from perdure.backends.labels import wanted_labels
from perdure.backends.protocol import HistoryPage
from perdure.backends.sql.rows import read_row
from perdure.backends.sql.statements import SQL, find_page
from perdure.errors import CorruptDataError
from perdure.models import Page, SessionFilter, SessionSummary, StoredSession
from perdure.models.times import from_micros, to_micros

__all__ = ["find_in", "read_facts", "read_queries", "read_session", "read_snapshot", "readable", "snapshot"]

log = structlog.get_logger("perdure.sqlite")

_LATEST = 2**62
_ABOVE_ALL = b"\xff" * 17
_RARITY_COUNTED = 1_000


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Several selects as of one instant."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def read_facts(connection: sqlite3.Connection, session_id: UUID) -> StoredSession | None:
    """The session without sections and queries.

    Raises:
        CorruptDataError: its row cannot be read.
    """
    row = connection.execute(SQL.select_session, {"id": session_id.bytes}).fetchone()
    return None if row is None else _read(row)


def read_session(connection: sqlite3.Connection, session_id: UUID, *, history: int | None) -> StoredSession | None:
    """The session with its sections and its newest `history` queries (None: all)."""
    session = read_facts(connection, session_id)
    if session is None:
        return None
    key = {"session_id": session_id.bytes}
    for section, entry, value in connection.execute(SQL.select_entries, key):
        session.sections[section][entry] = value
    after = 0 if history is None else max(0, session.total_queries - history)
    session.first_position = after + 1
    if history != 0:
        rows = connection.execute(SQL.select_queries, {**key, "after": after, "upto": session.total_queries})
        session.queries = [body for (body,) in rows.fetchall()]
    return session


def read_snapshot(connection: sqlite3.Connection, session_id: UUID, *, history: int | None) -> StoredSession | None:
    """The session, as of one instant."""
    with snapshot(connection):
        return read_session(connection, session_id, history=history)


def read_queries(
    connection: sqlite3.Connection,
    session_id: UUID,
    *,
    after: int,
    before: int | None,
    limit: int,
    owner: str | None,
) -> HistoryPage | None:
    """See `SessionBackend.queries`. One instant is not needed: queries are only ever added."""
    session = read_facts(connection, session_id)
    if session is None or (owner is not None and session.user_id != owner):
        return None
    upto = session.total_queries if before is None else min(before - 1, session.total_queries)
    if before is not None and after == 0:
        after = max(0, upto - limit)
    upto = min(upto, after + limit)
    rows = connection.execute(SQL.select_queries, {"session_id": session_id.bytes, "after": after, "upto": upto})
    return HistoryPage([body for (body,) in rows.fetchall()], after + 1, session.total_queries)


def find_in(
    connection: sqlite3.Connection, wanted: SessionFilter, below: SortKey | None, limit: int
) -> Page[SessionSummary]:
    """See `SessionBackend.find`: scans the rarest label of the filter, and looks the others up."""
    label, *others = _rarest_first(connection, wanted_labels(wanted))
    below_at, below_id = (_LATEST, _ABOVE_ALL) if below is None else (to_micros(below[0]), below[1].bytes)
    if wanted.created_before is not None:
        below_at, below_id = min((below_at, below_id), (to_micros(wanted.created_before), b""))
    rows = connection.execute(
        find_page(others=len(others), archived=wanted.archived),
        {
            "label": label,
            "below_at": below_at,
            "below_id": below_id,
            "created_after": -_LATEST if wanted.created_after is None else to_micros(wanted.created_after),
            "limit": limit + 1,
            **{f"other_{number}": other for number, other in enumerate(others, 1)},
        },
    ).fetchall()
    found = [SessionSummary.of(session) for session in readable(rows[:limit])]
    if len(rows) <= limit:
        return Page(found)
    last = rows[limit - 1]
    return Page(found, write_cursor((from_micros(last[5]), UUID(bytes=last[0]))))


def readable(rows: Iterable[Sequence[Any]]) -> Iterator[StoredSession]:
    """The sessions in rows of `sessions`; one that cannot be read is left out and logged, and hides no other."""
    for row in rows:
        try:
            yield _read(row)
        except CorruptDataError as error:
            log.warning("session.unreadable", session_id=_id_text(row[0]), error=str(error))


def _read(row: Sequence[Any]) -> StoredSession:
    try:
        return read_row(row)
    except (ValueError, TypeError, OverflowError) as error:
        raise CorruptDataError("sqlite", f"the row of session {_id_text(row[0])} cannot be read: {error}") from error


def _id_text(key: bytes) -> str:
    return str(UUID(bytes=key)) if len(key) == 16 else key.hex()


def _rarest_first(connection: sqlite3.Connection, labels: list[str]) -> list[str]:
    if len(labels) == 1:
        return labels

    def count(label: str) -> int:
        found: int = connection.execute(SQL.count_label, {"label": label, "most": _RARITY_COUNTED}).fetchone()[0]
        return found

    return sorted(labels, key=count)
