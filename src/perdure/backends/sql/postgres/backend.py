"""Sessions in a PostgreSQL database, usable by any number of processes."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from perdure.backends.cursors import read_cursor
from perdure.backends.protocol import (
    Absorbed,
    Archived,
    BackendHealth,
    Claimed,
    Copy,
    Deliver,
    HistoryPage,
    Purged,
    Tombstone,
)
from perdure.backends.sql.postgres import measuring, reading, writing
from perdure.backends.sql.postgres.absorbing import absorb_all
from perdure.backends.sql.postgres.address import Address
from perdure.backends.sql.postgres.archiving import archive_all
from perdure.backends.sql.postgres.commits import GroupCommit
from perdure.backends.sql.postgres.connections import Connection, Connections, Work
from perdure.backends.sql.postgres.counting import totals_in
from perdure.backends.sql.postgres.health import health_of
from perdure.backends.sql.postgres.meanings import NAME
from perdure.backends.sql.postgres.records import Bundle
from perdure.backends.sql.postgres.schema import PostgresSchema
from perdure.backends.sql.postgres.statements import statements_in
from perdure.changes import Applied, SessionChange
from perdure.errors import PerdureError
from perdure.models import (
    Measured,
    Measures,
    Page,
    SessionFilter,
    SessionMetrics,
    SessionSummary,
    SessionTotals,
    StatsFilter,
    StoredSession,
)

__all__ = ["PostgresBackend"]

T = TypeVar("T")

RECORDED_AT_ONCE = 200


class PostgresBackend:
    """A `SessionBackend` on one schema of a database; PostgreSQL 14 or newer.

    What was acknowledged is committed, and as durable as the server's `synchronous_commit` makes it. The schema is
    made, or brought up to date, when the backend is opened, unless `migrate` is false. What is given here comes before
    what the URL says; the page on PostgreSQL explains each.
    """

    name = NAME
    cache = None

    def __init__(
        self,
        url: str,
        *,
        schema: str | None = None,
        pool_size: int | None = None,
        connect_timeout: timedelta | None = None,
        command_timeout: timedelta | None = None,
        bulk_timeout: timedelta | None = None,
        prepared: bool | None = None,
        migrate: bool | None = None,
    ) -> None:
        address = Address.of(
            url,
            schema=schema,
            pool_size=pool_size,
            connect_timeout=connect_timeout,
            command_timeout=command_timeout,
            bulk_timeout=bulk_timeout,
            prepared=prepared,
            migrate=migrate,
        )
        self.schema = PostgresSchema(address)
        self._address = address
        self._sql = statements_in(address.schema)
        self._timeout_s = address.command_timeout.total_seconds()
        self._bulk_timeout_s = address.bulk_timeout.total_seconds()
        self._for_changes = Connections(address, most=1)
        self._connections = Connections(address, most=address.pool_size - 1)
        self._commits = GroupCommit(self._for_changes, self._sql, timeout_s=self._timeout_s)

    async def open(self) -> None:
        """See `SessionBackend.open`.

        Raises:
            BackendUnavailableError: nobody answers, or the role is refused.
            SchemaError: there is no such database, its schema is of a newer perdure, or may not be made.
        """
        if self._address.migrate:
            await self.schema.create()
        else:
            await self.schema.check()
        self._for_changes.open()
        self._connections.open()

    async def aclose(self) -> None:
        """See `SessionBackend.aclose`."""
        await self._for_changes.aclose()
        await self._connections.aclose()

    async def _run(self, work: Work[T], *, repeatable: bool = False) -> T:
        return await self._connections.run(work, timeout_s=self._timeout_s, repeatable=repeatable)

    async def _run_long(self, work: Work[T], *, repeatable: bool = False) -> T:
        return await self._connections.run(work, timeout_s=self._bulk_timeout_s, repeatable=repeatable)

    async def health(self, *, now: datetime) -> BackendHealth:
        """See `SessionBackend.health`."""
        began = time.perf_counter()
        try:
            facts = await self._run(partial(health_of, schema=self._address.schema, now=now), repeatable=True)
        except PerdureError as error:
            return BackendHealth(self.name, ok=False, latency_ms=_since(began), error=str(error))
        details = {**facts.details, "connections_held": self._for_changes.held + self._connections.held}
        latency = _since(began)
        return BackendHealth(
            self.name,
            ok=True,
            latency_ms=latency,
            last_swept_at=facts.last_swept_at,
            due=facts.due,
            due_since=facts.due_since,
            details=details,
            warnings=facts.warnings,
        )

    async def create(self, session: StoredSession, *, fresh: bool = False) -> None:
        """See `SessionBackend.create`."""
        self._connections.check_open()
        bundle = Bundle.of(session)
        sent = False

        async def work(connection: Connection) -> None:
            nonlocal sent
            again, sent = sent, True
            await writing.create_in(connection, self._sql, bundle, again=again)

        await self._run(work, repeatable=True)

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionBackend.read`."""
        work = partial(reading.read_session, sql=self._sql, session_id=session_id, history=history)
        return await self._run(work, repeatable=True)

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """See `SessionBackend.apply`."""
        return await self._commits.apply(session_id, change)

    async def queries(
        self,
        session_id: UUID,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        owner: str | None = None,
    ) -> HistoryPage | None:
        """See `SessionBackend.queries`."""
        work = partial(
            reading.read_page,
            sql=self._sql,
            session_id=session_id,
            owner=owner,
            after=after,
            before=before,
            limit=limit,
        )
        return await self._run(work, repeatable=True)

    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        """See `SessionBackend.find`."""
        below = read_cursor(cursor)
        work = partial(reading.find_in, sql=self._sql, wanted=wanted, below=below, limit=limit)
        return await self._run(work, repeatable=True)

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """See `SessionBackend.delete`."""
        return await self._run(
            partial(writing.delete_from, sql=self._sql, session_id=session_id, forget_at=forget_at, owner=owner)
        )

    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        """See `SessionBackend.claim_expired`."""
        return await self._run_long(
            partial(writing.claim_from, sql=self._sql, now=now, lease=lease, limit=limit, max_bytes=max_bytes)
        )

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """See `SessionBackend.archive`."""
        return await archive_all(
            self._connections, self._sql, sessions, at=at, deliver=deliver, timeout_s=self._bulk_timeout_s
        )

    async def copies(self, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
        """See `SessionBackend.copies`."""
        return await self._run(partial(reading.copies_of, sql=self._sql, ids=session_ids), repeatable=True)

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """See `SessionBackend.absorb`."""
        return await absorb_all(self._connections, self._sql, sessions, tickets, timeout_s=self._bulk_timeout_s)

    async def ticket(self, session_id: UUID, *, now: datetime) -> str:
        """See `SessionBackend.ticket`."""
        work = partial(writing.ticket_of, sql=self._sql, session_id=session_id, now=now)
        return await self._run(work, repeatable=True)

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """See `SessionBackend.evict`."""
        return await self._run(
            partial(writing.evict_from, sql=self._sql, session_id=session_id, version=version, head=head)
        )

    async def purge(
        self,
        *,
        archived_before: datetime,
        now: datetime,
        limit: int,
        among: Collection[UUID] | None = None,
        dry_run: bool = False,
    ) -> Purged:
        """See `SessionBackend.purge`."""
        work = partial(
            writing.purge_from,
            sql=self._sql,
            archived_before=archived_before,
            now=now,
            limit=limit,
            among=among,
            dry_run=dry_run,
        )
        return await self._run_long(work, repeatable=dry_run)

    async def aggregate(self, wanted: SessionFilter, *, without: Collection[UUID] = ()) -> SessionTotals:
        """See `SessionBackend.aggregate`."""
        work = partial(totals_in, schema=self._address.schema, wanted=wanted, without=without)
        return await self._run_long(work, repeatable=True)

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        """See `SessionBackend.measure`."""
        work = partial(
            measuring.measure_in,
            schema=self._address.schema,
            wanted=wanted,
            now=now,
            without=without,
            with_ids=with_ids,
        )
        return await self._run_long(work, repeatable=True)

    async def metrics(self, wanted: StatsFilter, *, cursor: str | None = None, limit: int) -> Page[SessionMetrics]:
        """See `SessionBackend.metrics`."""
        work = partial(
            measuring.metrics_in,
            schema=self._address.schema,
            sql=self._sql,
            wanted=wanted,
            cursor=cursor,
            limit=limit,
        )
        return await self._run_long(work, repeatable=True)

    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        """See `SessionBackend.record`."""
        # One statement cannot write a row twice: of several records of a session the first of the highest version goes.
        newest = {each.id: each for each in sorted(sessions, key=lambda each: each.version, reverse=True)[::-1]}
        measured = [Measured.of(replace(each, archived_at=each.archived_at or at), now=at) for each in newest.values()]
        counted: dict[UUID, bool] = {}
        for start in range(0, len(measured), RECORDED_AT_ONCE):
            some = measured[start : start + RECORDED_AT_ONCE]
            work = partial(measuring.record_in, schema=self._address.schema, measured=some)
            counted |= await self._run_long(work, repeatable=True)
        return [counted[session.id] for session in sessions]

    async def roll_up(self, *, limit: int) -> int:
        """See `SessionBackend.roll_up`."""
        work = partial(measuring.roll_up_in, schema=self._address.schema, limit=limit)
        return await self._run_long(work, repeatable=True)

    async def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
        """See `SessionBackend.start_sweep`."""
        return await self._run(partial(writing.start_sweep_in, sql=self._sql, now=now, interval=interval))


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
