"""Reading from SQLite: functions of a connection, each run whole on the database's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from perdure.backends.cursors import SortKey, write_cursor
from perdure.backends.labels import wanted_labels
from perdure.backends.protocol import Copy, HistoryPage, Tombstone
from perdure.backends.sql.rows import COLUMNS, read_counters, read_row
from perdure.backends.sql.statements import SQL, find_page
from perdure.errors import CorruptDataError
from perdure.logs import EventLog
from perdure.models import Page, SessionFilter, SessionSummary, StoredSession
from perdure.models.times import from_micros, to_micros

__all__ = [
    "copies_in",
    "fetched",
    "find_in",
    "read_bodies",
    "read_facts",
    "read_for_change",
    "read_queries",
    "read_session",
    "read_snapshot",
    "readable",
    "snapshot",
]

log = EventLog("perdure.sqlite")

_LATEST = 2**62
_ABOVE_ALL = b"\xff" * 17
_RARITY_COUNTED = 1_000
_CREATED_AT = [column.name for column in COLUMNS].index("created_at")
_LABELLED_AT = len(COLUMNS)


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Several selects as of one instant."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def fetched(connection: sqlite3.Connection, statement: str, parameters: Mapping[str, Any]) -> list[Any]:
    r"""All rows. Damaged text that is no UTF-8 comes with `\x…` for its bad bytes, which no reader takes for JSON."""
    try:
        return connection.execute(statement, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) is not None:  # only the driver's own errors have none
            raise
    connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
    try:
        return connection.execute(statement, parameters).fetchall()
    finally:
        connection.text_factory = str


def read_facts(connection: sqlite3.Connection, session_id: UUID) -> StoredSession | None:
    """The session without sections and queries.

    Raises:
        CorruptDataError: its row cannot be read.
    """
    rows = fetched(connection, SQL.select_session, {"id": session_id.bytes})
    return _read(rows[0]) if rows else None


def read_for_change(connection: sqlite3.Connection, session_id: UUID) -> StoredSession | None:
    """What a change that moves no label looks at: see `read_counters`.

    Raises:
        CorruptDataError: its row cannot be read.
    """
    rows = fetched(connection, SQL.select_counters, {"id": session_id.bytes})
    try:
        return read_counters(session_id, rows[0]) if rows else None
    except (ValueError, TypeError, OverflowError) as error:
        raise CorruptDataError("sqlite", f"the row of session {session_id} cannot be read: {error}") from error


def read_session(connection: sqlite3.Connection, session_id: UUID, *, history: int | None) -> StoredSession | None:
    """The session with its sections and its newest `history` queries (None: all).

    Raises:
        CorruptDataError: its row cannot be read, or an entry is in a section that does not exist.
    """
    session = read_facts(connection, session_id)
    if session is None:
        return None
    key = {"session_id": session_id.bytes}
    for section, entry, value in fetched(connection, SQL.select_entries, key):
        if section not in session.sections:
            raise CorruptDataError("sqlite", f"session {session_id} has an entry in a section {section!r}")
        session.sections[section][entry] = value
    after = 0 if history is None else max(0, session.total_queries - history)
    session.first_position = after + 1
    if history != 0:
        rows = fetched(connection, SQL.select_queries, {**key, "after": after, "upto": session.total_queries})
        session.queries = [body for (body,) in rows]
    return session


def read_bodies(connection: sqlite3.Connection, session_id: UUID) -> list[str]:
    """All queries of a session."""
    return [body for (body,) in fetched(connection, SQL.select_bodies, {"session_id": session_id.bytes})]


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
    rows = fetched(connection, SQL.select_queries, {"session_id": session_id.bytes, "after": after, "upto": upto})
    return HistoryPage([body for (body,) in rows], after + 1, session.total_queries)


def find_in(
    connection: sqlite3.Connection, wanted: SessionFilter, below: SortKey | None, limit: int
) -> Page[SessionSummary]:
    """See `SessionBackend.find`: scans the rarest label of the filter, and looks the others up."""
    label, *others = _rarest_first(connection, wanted_labels(wanted))
    below_at, below_id = (_LATEST, _ABOVE_ALL) if below is None else (to_micros(below[0]), below[1].bytes)
    if wanted.created_before is not None:
        below_at, below_id = min((below_at, below_id), (to_micros(wanted.created_before), b""))
    statement = find_page(others=len(others), archived=wanted.archived)
    parameters = {
        "label": label,
        "created_after": -_LATEST if wanted.created_after is None else to_micros(wanted.created_after),
        "limit": limit + 1,
        **{f"other_{number}": other for number, other in enumerate(others, 1)},
    }
    while True:
        rows = fetched(connection, statement, {**parameters, "below_at": below_at, "below_id": below_id})
        found = [SessionSummary.of(session) for session in readable(rows[:limit])]
        if len(rows) <= limit:
            return Page(found)
        if found:  # a row that cannot be read may have no sort key that a cursor can carry
            return Page(found, write_cursor((found[-1].created_at, found[-1].id)))
        below_at, below_id = rows[limit - 1][_LABELLED_AT], rows[limit - 1][0]


def copies_in(connection: sqlite3.Connection, *, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
    """See `SessionBackend.copies`."""
    found: dict[UUID, Copy | Tombstone] = {}
    with snapshot(connection):
        for known in session_ids:
            for version, head, archived_at in fetched(connection, SQL.select_copy, {"id": known.bytes}):
                found[known] = Copy(version, head, archived_at is not None)
            for (forget_at,) in fetched(connection, SQL.select_tombstone, {"session_id": known.bytes}):
                found.setdefault(known, Tombstone(from_micros(forget_at)))
    return found


def readable(rows: Iterable[Sequence[Any]]) -> Iterator[StoredSession]:
    """The sessions in rows of `sessions`; one that cannot be read is left out and logged, and hides no other."""
    for row in rows:
        try:
            yield _read(row)
        except CorruptDataError as error:
            log.warning("session.unreadable", session_id=_id_text(row[0]), error=str(error))


def _read(row: Sequence[Any]) -> StoredSession:
    try:
        if len(row) > _LABELLED_AT and row[_LABELLED_AT] != row[_CREATED_AT]:
            raise ValueError("its labels and its row differ in when it was created")
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
