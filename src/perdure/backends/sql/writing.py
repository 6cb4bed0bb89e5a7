"""Writing to SQLite: functions of a connection inside a transaction, each run whole on the database's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from uuid_utils.compat import uuid7

from perdure.backends.labels import labels_of
from perdure.backends.protocol import Absorbed, Claimed, Purged
from perdure.backends.sql.reading import fetched, read_bodies, read_facts, read_for_change, read_session, readable
from perdure.backends.sql.recording import forget_metrics, put_metrics
from perdure.backends.sql.rows import ARCHIVED_AT, facts_of, row_of
from perdure.backends.sql.statements import SQL
from perdure.changes import Applied, SessionChange, advance, check, entry_bytes, recall
from perdure.errors import CorruptDataError, PerdureError, SessionExistsError, SessionNotFoundError
from perdure.merging import AbsorbOutcome, merge
from perdure.models import StoredSession
from perdure.models.times import from_micros, to_micros

__all__ = [
    "SWEEP",
    "absorb_into",
    "apply_to",
    "claim_from",
    "create_in",
    "delete_from",
    "evict_from",
    "is_buried",
    "label_rows",
    "purge_from",
    "relabel",
    "start_sweep_in",
    "ticket_of",
]

SWEEP = "archive"
NIL = UUID(int=0)


def create_in(connection: sqlite3.Connection, session: StoredSession) -> None:
    """See `SessionBackend.create`."""
    if _exists(connection, session.id) or is_buried(connection, session.id):
        raise SessionExistsError(session.id)
    _insert(connection, session)


def apply_to(connection: sqlite3.Connection, session_id: UUID, change: SessionChange) -> Applied:
    """See `SessionBackend.apply`. Everything is checked before anything is written."""
    moves = _moves(change)
    session = read_facts(connection, session_id) if moves else read_for_change(connection, session_id)
    if session is None:
        raise SessionNotFoundError(session_id)
    if (before := recall(session, change)) is not None:
        return before
    freed = _freed_bytes(connection, session_id, change)
    check(session, change, freed_bytes=freed)

    first = session.total_queries + 1
    labels = label_rows(session) if moves else None
    expired_at, archived_at = session.expires_at, session.archived_at
    applied = advance(session, change, freed_bytes=freed)
    key = session_id.bytes
    if labels is None:
        connection.execute(SQL.update_facts, facts_of(session))
    else:
        row = row_of(session)
        connection.execute(SQL.update_all, row)
        if session.archived_at is None and (expired_at, archived_at) != (session.expires_at, None):
            connection.execute(SQL.update_due, {"id": key, "due_at": row["expires_at"]})  # else a lease stays one
        relabel(connection, labels, label_rows(session))
    _write_entries(connection, key, change)
    for position, query in enumerate(change.queries, first):
        connection.execute(SQL.insert_query, (key, position, query.body))
    if change.archive:
        session.queries = read_bodies(connection, session_id)
        put_metrics(connection, session)
    return applied


def _moves(change: SessionChange) -> bool:
    """Whether the change may touch what sessions are found by: labels, expiry, archived or not."""
    labels = change.add_assets or change.remove_assets or change.add_tags or change.remove_tags
    return bool(labels) or change.expires_at is not None or change.archive


def _write_entries(connection: sqlite3.Connection, key: bytes, change: SessionChange) -> None:
    for section, keys in change.unset_entries.items():
        connection.executemany(
            SQL.delete_entry, [{"session_id": key, "section": section, "key": entry} for entry in keys]
        )
    for section, entries in change.set_entries.items():
        connection.executemany(
            SQL.put_entry,
            [{"session_id": key, "section": section, "key": entry, "value": text} for entry, text in entries.items()],
        )


def _freed_bytes(connection: sqlite3.Connection, session_id: UUID, change: SessionChange) -> int:
    """What the entries that the change sets or removes weigh at present."""
    touched = {(section, key) for section, keys in change.unset_entries.items() for key in keys}
    touched |= {(section, key) for section, entries in change.set_entries.items() for key in entries}
    freed = 0
    for section, key in touched:
        found = fetched(connection, SQL.select_entry, {"session_id": session_id.bytes, "section": section, "key": key})
        freed += sum(entry_bytes(key, text) for (text,) in found)
    return freed


def delete_from(connection: sqlite3.Connection, session_id: UUID, *, forget_at: datetime, owner: str | None) -> bool:
    """See `SessionBackend.delete`. A row that cannot be read can still be deleted."""
    row = connection.execute("SELECT user_id FROM sessions WHERE id = :id", {"id": session_id.bytes}).fetchone()
    if row is not None and owner is not None and row[0] != owner:
        return False
    _remove(connection, session_id)
    forget_metrics(connection, session_id, owner=owner if row is None else None)
    connection.execute(SQL.put_tombstone, {"session_id": session_id.bytes, "forget_at": to_micros(forget_at)})
    return row is not None


def claim_from(
    connection: sqlite3.Connection, *, now: datetime, lease: timedelta, limit: int, max_bytes: int
) -> Claimed:
    """See `SessionBackend.claim_expired`."""
    claimed = Claimed([])
    size = 0
    due = connection.execute(SQL.select_due, {"now": to_micros(now), "limit": limit}).fetchall()
    for number, (key, weight) in enumerate(due):
        size += weight
        if number and size > max_bytes:
            break
        connection.execute(SQL.update_due, {"id": key, "due_at": to_micros(now + lease)})
        try:
            session = read_session(connection, UUID(bytes=key), history=None)
        except CorruptDataError as error:
            claimed.unreadable[UUID(bytes=key)] = str(error)
            continue
        except ValueError:
            claimed.unreadable[uuid5(NIL, key.hex())] = f"the id {key.hex()} of a session is no UUID"
            continue
        assert session is not None
        claimed.sessions.append(session)
    return claimed


def absorb_into(
    connection: sqlite3.Connection, sessions: Sequence[StoredSession], tickets: Mapping[UUID, str] | None
) -> list[Absorbed]:
    """See `SessionBackend.absorb`: a savepoint around each session, so that a bad one fails alone."""
    report = []
    for session in sessions:
        connection.execute("SAVEPOINT session")
        try:
            report.append(Absorbed(session.id, _absorb_one(connection, session, tickets)))
        except (
            PerdureError,
            sqlite3.IntegrityError,
            sqlite3.DataError,
            sqlite3.InterfaceError,
            sqlite3.ProgrammingError,
            ValueError,
            TypeError,
            OverflowError,
        ) as error:
            connection.execute("ROLLBACK TO session")
            report.append(Absorbed(session.id, AbsorbOutcome.FAILED, str(error)))
        connection.execute("RELEASE session")
    return report


def _absorb_one(
    connection: sqlite3.Connection, session: StoredSession, tickets: Mapping[UUID, str] | None
) -> AbsorbOutcome:
    if is_buried(connection, session.id):
        return AbsorbOutcome.DELETED
    kept = read_session(connection, session.id, history=None)
    if tickets is not None:
        found = connection.execute(SQL.select_ticket, {"session_id": session.id.bytes}).fetchone()
        if kept is not None or found is None or tickets.get(session.id) != found[0]:
            return AbsorbOutcome.REFUSED
    if kept is None:
        _insert(connection, session)
        return AbsorbOutcome.STORED
    outcome, result = merge(kept, session)
    connection.execute(SQL.delete_ticket, {"session_id": session.id.bytes})
    if outcome is not AbsorbOutcome.UNCHANGED:
        _remove(connection, session.id)
        _insert(connection, result)
    return outcome


def ticket_of(connection: sqlite3.Connection, session_id: UUID, *, now: datetime) -> str:
    """See `SessionBackend.ticket`: readers that come at the same time share one."""
    found = connection.execute(SQL.select_ticket, {"session_id": session_id.bytes}).fetchone()
    if found is not None:
        return str(found[0])
    ticket = uuid7().hex
    connection.execute(
        SQL.insert_ticket, {"session_id": session_id.bytes, "ticket": ticket, "taken_at": to_micros(now)}
    )
    return ticket


def evict_from(connection: sqlite3.Connection, session_id: UUID, *, version: int, head: str) -> bool:
    """See `SessionBackend.evict`."""
    connection.execute(SQL.delete_ticket, {"session_id": session_id.bytes})
    session = read_facts(connection, session_id)
    if session is None or (session.version, session.head) != (version, head):
        return False
    _remove(connection, session_id)
    forget_metrics(connection, session_id)
    return True


def purge_from(
    connection: sqlite3.Connection,
    *,
    archived_before: datetime,
    now: datetime,
    limit: int,
    among: Sequence[UUID] | None,
    dry_run: bool,
) -> Purged:
    """See `SessionBackend.purge`."""
    if among is None:
        rows = fetched(connection, SQL.select_archived, {"before": to_micros(archived_before), "limit": limit + 1})
    else:
        rows = _archived_among(connection, among, archived_before)[: limit + 1]
    chosen = [session.id for session in readable(rows[:limit])]
    if not dry_run:
        for session_id in chosen:
            _remove(connection, session_id)
        connection.execute(SQL.forget_tombstones, {"now": to_micros(now)})
        connection.execute(SQL.forget_tickets, {"abandoned": to_micros(now - timedelta(hours=1))})
    return Purged(chosen, more=len(rows) > limit)


def _archived_among(connection: sqlite3.Connection, ids: Sequence[UUID], before: datetime) -> list[Any]:
    """Rows of those of the sessions that were archived before that instant, the longest archived first."""
    found = [row for known in set(ids) for row in fetched(connection, SQL.select_session, {"id": known.bytes})]
    old = [row for row in found if row[ARCHIVED_AT] is not None and row[ARCHIVED_AT] < to_micros(before)]
    return sorted(old, key=lambda row: (row[ARCHIVED_AT], row[0]))


def start_sweep_in(connection: sqlite3.Connection, *, now: datetime, interval: timedelta) -> bool:
    """See `SessionBackend.start_sweep`."""
    found = connection.execute(SQL.select_sweep, {"name": SWEEP}).fetchone()
    if found is not None and interval:
        last = from_micros(found[0])
        if last <= now < last + interval:
            return False
    connection.execute(SQL.put_sweep, {"name": SWEEP, "started_at": to_micros(now)})
    return True


def _insert(connection: sqlite3.Connection, session: StoredSession) -> None:
    row = row_of(session)
    row["due_at"] = row["expires_at"] if session.archived_at is None else None
    key = row["id"]
    connection.execute(SQL.insert_session, row)
    connection.executemany(
        SQL.put_entry,
        [
            {"session_id": key, "section": section, "key": entry, "value": text}
            for section, entries in session.sections.items()
            for entry, text in entries.items()
        ],
    )
    connection.executemany(
        SQL.insert_query,
        [(key, position, body) for position, body in enumerate(session.queries, session.first_position)],
    )
    relabel(connection, set(), label_rows(session))
    connection.execute(SQL.delete_ticket, {"session_id": key})
    if session.archived_at is not None:
        put_metrics(connection, session)


def _remove(connection: sqlite3.Connection, session_id: UUID) -> None:
    key = {"session_id": session_id.bytes}
    connection.execute(SQL.delete_ticket, key)
    try:
        session = read_facts(connection, session_id)
    except CorruptDataError:
        # Its labels cannot be known, so they are looked for.
        connection.execute("DELETE FROM session_labels WHERE session_id = :session_id", key)
    else:
        if session is None:
            return
        relabel(connection, label_rows(session), set())
    connection.execute(SQL.delete_session, {"id": session_id.bytes})


LabelRow = tuple[str, int, int, bytes]


def label_rows(session: StoredSession) -> set[LabelRow]:
    """The rows of `session_labels` that the session has."""
    archived, at, key = int(session.archived_at is not None), to_micros(session.created_at), session.id.bytes
    labels = labels_of(session.user_id, session.type, session.assets, session.tags)
    return {(label, archived, at, key) for label in labels}


def relabel(connection: sqlite3.Connection, before: set[LabelRow], after: set[LabelRow]) -> None:
    """Bring the rows of `session_labels` from what they were to what they are to be."""
    names = ("label", "archived", "created_at", "session_id")
    if gone := before - after:
        connection.executemany(SQL.delete_label, [dict(zip(names, row, strict=True)) for row in sorted(gone)])
    if new := after - before:
        connection.executemany(SQL.insert_label, [dict(zip(names, row, strict=True)) for row in sorted(new)])


def _exists(connection: sqlite3.Connection, session_id: UUID) -> bool:
    return connection.execute("SELECT 1 FROM sessions WHERE id = :id", {"id": session_id.bytes}).fetchone() is not None


def is_buried(connection: sqlite3.Connection, session_id: UUID) -> bool:
    """Whether a deleted session left its tombstone."""
    return connection.execute(SQL.select_tombstone, {"session_id": session_id.bytes}).fetchone() is not None
