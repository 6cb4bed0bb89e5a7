"""Archiving in SQLite: functions of a connection inside a transaction, each run whole on the database's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from perdure.backends.protocol import Archived, ArchiveOutcome
from perdure.backends.sql.recording import put_metrics
from perdure.backends.sql.statements import SQL
from perdure.backends.sql.writing import is_buried, label_rows, relabel
from perdure.models import StoredSession
from perdure.models.times import from_micros, to_micros

__all__ = ["ArchiveReport", "archive_in", "settle_in"]


@dataclass(slots=True)
class ArchiveReport:
    """What became of each session, and those that are in the archive now, to be delivered."""

    outcomes: list[Archived] = field(default_factory=list)
    archived: list[StoredSession] = field(default_factory=list)


def archive_in(connection: sqlite3.Connection, *, sessions: Sequence[StoredSession], at: datetime) -> ArchiveReport:
    """See `SessionBackend.archive`, up to the delivery. The rows stay due, so that a crash before it delivers them."""
    report = ArchiveReport()
    for session in sessions:
        archived = _archive_one(connection, session, at)
        if archived is None:
            buried = is_buried(connection, session.id)
            outcome = ArchiveOutcome.DELETED if buried else ArchiveOutcome.CHANGED
        else:
            outcome = ArchiveOutcome.ARCHIVED
            report.archived.append(archived)
        report.outcomes.append(Archived(session.id, outcome))
    return report


def _archive_one(connection: sqlite3.Connection, session: StoredSession, at: datetime) -> StoredSession | None:
    """The session as it is in the archive now; None where this very copy of it is not kept."""
    this = {**_this(session), "at": to_micros(at)}
    if connection.execute(SQL.archive_session, this).rowcount:
        archived = replace(session, archived_at=at)
        relabel(connection, label_rows(replace(session, archived_at=None)), label_rows(archived))
        put_metrics(connection, archived)
        return archived
    for version, head, archived_at in connection.execute(SQL.select_copy, this):
        if archived_at is not None and (version, head) == (session.version, session.head):
            return replace(session, archived_at=from_micros(archived_at))
    return None


def settle_in(connection: sqlite3.Connection, *, sessions: Sequence[StoredSession]) -> None:
    """Their archiving was delivered: they are due no longer."""
    connection.executemany(SQL.settle_due, [_this(session) for session in sessions])


def _this(session: StoredSession) -> dict[str, bytes | int | str]:
    return {"id": session.id.bytes, "version": session.version, "head": session.head}
