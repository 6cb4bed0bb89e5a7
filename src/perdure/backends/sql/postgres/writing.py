"""Writing to Postgres, but for changes and bulk: functions of a connection, each one call of the server's function."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from perdure.backends.protocol import Claimed, Purged
from perdure.backends.sql.postgres.absorbing import store_all
from perdure.backends.sql.postgres.connections import Connection
from perdure.backends.sql.postgres.meanings import NAME
from perdure.backends.sql.postgres.reading import read_whole, whole_of
from perdure.backends.sql.postgres.records import Bundle, ids_of
from perdure.backends.sql.postgres.statements import Statements
from perdure.errors import BackendUnavailableError, CorruptDataError, SessionExistsError
from perdure.models.times import to_micros

__all__ = [
    "SWEEP",
    "claim_from",
    "create_in",
    "delete_from",
    "evict_from",
    "purge_from",
    "start_sweep_in",
    "ticket_of",
]

SWEEP = "archive"

MOST = 10_000
"""Most sessions that one claim or purge takes, whatever was asked for."""

ATTEMPTS = 20


async def create_in(connection: Connection, sql: Statements, bundle: Bundle, *, again: bool) -> None:
    """See `SessionBackend.create`. `again` says that an attempt before this one may have succeeded."""
    session = bundle.session
    for _ in range(ATTEMPTS):
        rows = await store_all(connection, sql, [bundle], absorbing=False)
        if not rows:
            continue  # the copy that was in its way is gone already
        _, outcome, version, head, _ = rows[0]
        if outcome == "stored" or (again and (version, head) == (session.version, session.head)):
            return
        raise SessionExistsError(session.id)
    raise BackendUnavailableError(NAME, f"others create and delete session {session.id} without end")


async def delete_from(
    connection: Connection, sql: Statements, session_id: UUID, *, forget_at: datetime, owner: str | None
) -> bool:
    """See `SessionBackend.delete`. A row that cannot be read can still be deleted."""
    return bool(await connection.fetchval(sql.delete_session, session_id, to_micros(forget_at), owner))


async def claim_from(
    connection: Connection, sql: Statements, *, now: datetime, lease: timedelta, limit: int, max_bytes: int
) -> Claimed:
    """See `SessionBackend.claim_expired`."""
    terms = (to_micros(now), to_micros(now + lease), min(limit, MOST), max_bytes)
    rows: list[Any] = []
    for _ in range(ATTEMPTS):
        rows = await connection.fetch(sql.claim_sessions, *terms)
        if not rows or rows[0][0] is not None:
            break
    ids = [UUID(bytes=row[0].bytes) for row in rows if row[0] is not None]
    contents = {row[0]: row for row in await read_whole(connection, sql, ids)} if ids else {}
    claimed = Claimed([])
    for session_id in ids:
        if session_id not in contents:
            continue  # deleted since
        try:
            claimed.sessions.append(whole_of(contents[session_id]))
        except CorruptDataError as error:
            claimed.unreadable[session_id] = str(error)
    return claimed


async def ticket_of(connection: Connection, sql: Statements, session_id: UUID, *, now: datetime) -> str:
    """See `SessionBackend.ticket`: readers that come at the same time share one."""
    arguments = sql.put_ticket.arguments(session_id=session_id, ticket=uuid7().hex, taken_at=to_micros(now))
    return str(await connection.fetchval(sql.put_ticket.text, *arguments))


async def evict_from(connection: Connection, sql: Statements, session_id: UUID, *, version: int, head: str) -> bool:
    """See `SessionBackend.evict`."""
    return bool(await connection.fetchval(sql.evict_session, session_id, version, head))


async def purge_from(
    connection: Connection,
    sql: Statements,
    *,
    archived_before: datetime,
    now: datetime,
    limit: int,
    among: Collection[UUID] | None,
    dry_run: bool,
) -> Purged:
    """See `SessionBackend.purge`."""
    before = to_micros(archived_before)
    these = None if among is None else ids_of(list(among))
    if dry_run:
        statement = sql.select_archived if these is None else sql.select_archived_among
        known = {"before": before, "limit": limit + 1} | ({} if these is None else {"ids": these})
        rows = await connection.fetch(statement.text, *statement.arguments(**known))
        return Purged([UUID(bytes=row[0].bytes) for row in rows[:limit]], more=len(rows) > limit)
    abandoned = to_micros(now - timedelta(hours=1))
    rows = await connection.fetch(sql.purge_sessions, before, min(limit, MOST), these, to_micros(now), abandoned)
    return Purged([UUID(bytes=row[0].bytes) for row in rows], more=bool(rows) and rows[0][1])


async def start_sweep_in(connection: Connection, sql: Statements, *, now: datetime, interval: timedelta) -> bool:
    """See `SessionBackend.start_sweep`."""
    arguments = sql.start_sweep.arguments(
        name=SWEEP, now=to_micros(now), interval=interval // timedelta(microseconds=1)
    )
    return await connection.fetchval(sql.start_sweep.text, *arguments) is not None
