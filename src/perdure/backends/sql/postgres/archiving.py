"""Archiving in Postgres, many sessions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from perdure.backends.protocol import Archived, ArchiveOutcome, Deliver
from perdure.backends.sql.postgres.connections import Connection, Connections
from perdure.backends.sql.postgres.records import as_json
from perdure.backends.sql.postgres.splitting import each_alone, split
from perdure.backends.sql.postgres.statements import Statements
from perdure.errors import PerdureError
from perdure.models import StoredSession
from perdure.models.times import from_micros, to_micros

__all__ = ["archive_all"]


async def archive_all(
    connections: Connections,
    sql: Statements,
    sessions: Sequence[StoredSession],
    *,
    at: datetime,
    deliver: Deliver,
    timeout_s: float,
) -> list[Archived]:
    """See `SessionBackend.archive`. They stay due until that is delivered, so that a crash before delivers it again."""
    found: dict[UUID, Any] = {}

    async def send(batch: Sequence[StoredSession]) -> dict[UUID, Any]:
        work = partial(_archive, sql=sql, sessions=batch, at=at)
        return await connections.run(work, timeout_s=timeout_s, repeatable=True)

    for batch in split(sessions):
        found |= await each_alone(batch, send, _failed)
    archived = [
        replace(session, archived_at=from_micros(found[session.id]))
        for session in sessions
        if isinstance(found[session.id], int)
    ]
    if archived:
        await deliver(archived)
        for batch in split(archived):
            work = partial(_settle, sql=sql, sessions=batch)
            await connections.run(work, timeout_s=timeout_s, repeatable=True)
    return [
        Archived(session.id, ArchiveOutcome.ARCHIVED) if isinstance(found[session.id], int) else found[session.id]
        for session in sessions
    ]


def _failed(session: StoredSession, error: PerdureError) -> dict[UUID, Any]:
    return {session.id: Archived(session.id, ArchiveOutcome.FAILED, str(error))}


async def _archive(
    connection: Connection, sql: Statements, sessions: Sequence[StoredSession], at: datetime
) -> dict[UUID, Any]:
    """Since when each is archived, as a number, or what kept it from being."""
    found: dict[UUID, Any] = {}
    for key, archived_at, buried in await connection.fetch(sql.archive_sessions, _copies(sessions), to_micros(at)):
        session_id = UUID(bytes=key.bytes)
        if archived_at is not None:
            found[session_id] = archived_at
        else:
            outcome = ArchiveOutcome.DELETED if buried else ArchiveOutcome.CHANGED
            found[session_id] = Archived(session_id, outcome)
    return found


async def _settle(connection: Connection, sql: Statements, sessions: Sequence[StoredSession]) -> None:
    """Their archiving was delivered: they are due no longer."""
    await connection.fetch(sql.settle_sessions, _copies(sessions))


def _copies(sessions: Sequence[StoredSession]) -> str:
    return as_json([{"id": str(each.id), "version": each.version, "head": each.head} for each in sessions])
