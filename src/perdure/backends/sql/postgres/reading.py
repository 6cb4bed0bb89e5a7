"""Reading from Postgres: functions of a connection, each one statement, and so as of one instant."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any
from uuid import UUID

from pydantic_core import from_json

from perdure.backends.cursors import SortKey, write_cursor
from perdure.backends.labels import wanted_labels
from perdure.backends.protocol import Copy, HistoryPage, Tombstone
from perdure.backends.sql.postgres.connections import Connection
from perdure.backends.sql.postgres.meanings import NAME
from perdure.backends.sql.postgres.records import ids_of
from perdure.backends.sql.postgres.statements import Statements
from perdure.backends.sql.rows import COLUMNS, read_row
from perdure.errors import CorruptDataError
from perdure.logs import EventLog
from perdure.models import Page, SessionFilter, SessionSummary, StoredSession
from perdure.models.times import from_micros, to_micros

__all__ = ["HIGHEST_ID", "copies_of", "find_in", "read_page", "read_session", "read_whole", "whole_of"]

log = EventLog("perdure.postgres")

_EVERYTHING = 2**62
HIGHEST_ID = UUID(int=2**128 - 1)
_FACTS = len(COLUMNS)
_ID, _CREATED_AT, _WRITERS = (
    [column.name for column in COLUMNS].index(name) for name in ("id", "created_at", "writers")
)


async def read_session(
    connection: Connection, sql: Statements, session_id: UUID, *, history: int | None
) -> StoredSession | None:
    """The session with its sections and its newest `history` queries (None: all).

    Raises:
        CorruptDataError: its row cannot be read, or an entry is in a section that does not exist.
    """
    newest = _EVERYTHING if history is None else history
    rows = await connection.fetch(sql.read.text, *sql.read.arguments(id=session_id, history=newest))
    ordered = sorted(rows, key=itemgetter(3))
    queries = bisect_right(ordered, 0, key=itemgetter(3))
    others = [row for row in ordered[:queries] if row[0] is not None]
    if len(others) == queries:
        return None
    facts = next(from_json(row[2]) for row in ordered[:queries] if row[0] is None)
    facts[_ID], facts[_WRITERS] = session_id, bytes.fromhex(facts[_WRITERS])
    return _filled(_facts(facts), others, [row[2] for row in ordered[queries:]])


async def read_whole(connection: Connection, sql: Statements, ids: Sequence[UUID]) -> list[Any]:
    """Rows for `whole_of`, in any order."""
    rows: list[Any] = await connection.fetch(sql.read_many.text, *sql.read_many.arguments(ids=ids_of(ids)))
    return rows


def whole_of(row: Sequence[Any]) -> StoredSession:
    """The session in a row of `Statements.read_many`.

    Raises:
        CorruptDataError: see `read_session`.
    """
    return _filled(_facts(row), row[_FACTS] or (), row[_FACTS + 1])


def _filled(session: StoredSession, entries: Iterable[Sequence[Any]], bodies: list[str]) -> StoredSession:
    for section, key, text, *_ in entries:
        if section not in session.sections:
            raise CorruptDataError(NAME, f"session {session.id} has an entry in a section {section!r}")
        session.sections[section][key] = text
    session.queries = bodies
    session.first_position = session.total_queries - len(bodies) + 1
    return session


def _facts(row: Sequence[Any]) -> StoredSession:
    try:
        return read_row(row)
    except (ValueError, TypeError, OverflowError) as error:
        raise CorruptDataError(NAME, f"the row of session {row[0]} cannot be read: {error}") from error


async def read_page(
    connection: Connection,
    sql: Statements,
    session_id: UUID,
    *,
    after: int,
    before: int | None,
    limit: int,
    owner: str | None,
) -> HistoryPage | None:
    """See `SessionBackend.queries`."""
    statement = sql.history_page
    arguments = statement.arguments(id=session_id, after=after, before=before, limit=limit)
    row = await connection.fetchrow(statement.text, *arguments)
    if row is None or (owner is not None and row[0] != owner):
        return None
    _, total, place, bodies = row
    return HistoryPage(bodies, place + 1, total)


async def find_in(
    connection: Connection, sql: Statements, wanted: SessionFilter, below: SortKey | None, limit: int
) -> Page[SessionSummary]:
    """See `SessionBackend.find`."""
    below_at, below_id = (_EVERYTHING, HIGHEST_ID) if below is None else (to_micros(below[0]), below[1])
    if wanted.created_before is not None:
        below_at, below_id = min((below_at, below_id), (to_micros(wanted.created_before), UUID(int=0)))
    since = -_EVERYTHING if wanted.created_after is None else to_micros(wanted.created_after)
    flags = (wanted.archived is not True, wanted.archived is not False)
    while True:
        rows = await connection.fetch(
            sql.find_sessions, wanted_labels(wanted), *flags, below_at, below_id, since, limit + 1
        )
        found = [SessionSummary.of(session) for session in _readable(rows[:limit])]
        if len(rows) <= limit:
            return Page(found)
        if found:  # a row that cannot be read may have no sort key that a cursor can carry
            return Page(found, write_cursor((found[-1].created_at, found[-1].id)))
        below_id, below_at = rows[limit - 1][_FACTS], rows[limit - 1][_FACTS + 1]


def _readable(rows: Sequence[Sequence[Any]]) -> list[StoredSession]:
    """The sessions in rows of `find_sessions`; one that cannot be read is left out and logged, and hides no other."""
    sessions = []
    for row in rows:
        if row[0] is None:
            continue  # a label of no session, which `perdure db verify` names
        try:
            if row[_CREATED_AT] != row[_FACTS + 1]:
                raise CorruptDataError(NAME, "its labels and its row differ in when it was created")
            sessions.append(_facts(row))
        except CorruptDataError as error:
            log.warning("session.unreadable", session_id=str(row[0]), error=str(error))
    return sessions


async def copies_of(connection: Connection, sql: Statements, ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
    """See `SessionBackend.copies`."""
    found: dict[UUID, Copy | Tombstone] = {}
    rows = await connection.fetch(sql.copies.text, *sql.copies.arguments(ids=ids_of(ids)))
    for key, version, head, archived, forget_at in rows:
        session_id = UUID(bytes=key.bytes)
        found[session_id] = Tombstone(from_micros(forget_at)) if version is None else Copy(version, head, archived)
    return found
