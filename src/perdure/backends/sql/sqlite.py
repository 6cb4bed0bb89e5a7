"""Sessions in one SQLite file, usable by several processes at once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
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
from perdure.backends.sql import archiving, measuring, reading, recording, rolling, writing
from perdure.backends.sql.connection import DatabaseThread, Writer
from perdure.backends.sql.counting import health_of, totals_in
from perdure.backends.sql.meanings import NAME
from perdure.backends.sql.schema import SqliteSchema
from perdure.changes import Applied, SessionChange
from perdure.errors import BackendClosedError, BackendError
from perdure.models import (
    Measures,
    Page,
    SessionFilter,
    SessionMetrics,
    SessionSummary,
    SessionTotals,
    StatsFilter,
    StoredSession,
)

__all__ = ["SqliteBackend"]

T = TypeVar("T")

READ_PATIENCE_S = 10.0


class SqliteBackend:
    """A `SessionBackend` on one file: WAL, `synchronous=FULL`, one thread that writes and one that reads.

    What was acknowledged has been synced to the disk. The file is made, or brought up to date, when it is opened.
    `busy_timeout` is how long a write waits for other processes before it gives up. The folder must exist, unless
    `make_folder` says to make it.
    """

    name = NAME
    cache = None

    def __init__(
        self, path: Path, *, busy_timeout: timedelta = timedelta(seconds=10), make_folder: bool = False
    ) -> None:
        self.path = path
        self.schema = SqliteSchema(path, make_folder=make_folder)
        self._patience_s = busy_timeout.total_seconds()
        self._write_thread: DatabaseThread | None = None
        self._read_thread: DatabaseThread | None = None
        self._writer: Writer | None = None

    async def open(self) -> None:
        """See `SessionBackend.open`.

        Raises:
            SchemaError: the file is no database, or of a newer perdure.
            StorageReadOnlyError, BackendUnavailableError: it cannot be made, opened or written.
        """
        if self._writer is not None:
            return
        await self.schema.create()
        self._write_thread = await DatabaseThread.connect(self.path, busy_timeout_s=0)
        try:
            self._read_thread = await DatabaseThread.connect(self.path, busy_timeout_s=READ_PATIENCE_S)
        except BaseException:
            await self._write_thread.close()
            raise
        self._writer = Writer(self._write_thread, patience_s=self._patience_s)

    async def aclose(self) -> None:
        """See `SessionBackend.aclose`."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        assert self._write_thread is not None and self._read_thread is not None
        await writer.finish()
        await self._read_thread.close()
        await self._write_thread.close()

    @property
    def _writes(self) -> Writer:
        if self._writer is None:
            raise BackendClosedError(self.name)
        return self._writer

    @property
    def _reads(self) -> DatabaseThread:
        if self._writer is None or self._read_thread is None:
            raise BackendClosedError(self.name)
        return self._read_thread

    async def health(self, *, now: datetime) -> BackendHealth:
        """See `SessionBackend.health`."""
        began = time.perf_counter()
        try:
            facts = await self._reads.run(partial(health_of, now=now))
        except BackendError as error:
            return BackendHealth(self.name, ok=False, latency_ms=_since(began), error=str(error))
        details = {"path": str(self.path), **facts.details}
        return BackendHealth(
            self.name,
            ok=True,
            latency_ms=_since(began),
            last_swept_at=facts.last_swept_at,
            due=facts.due,
            due_since=facts.due_since,
            details=details,
        )

    async def create(self, session: StoredSession, *, fresh: bool = False) -> None:
        """See `SessionBackend.create`."""
        await self._writes.run(partial(writing.create_in, session=session))

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionBackend.read`."""
        return await self._reads.run(partial(reading.read_snapshot, session_id=session_id, history=history))

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """See `SessionBackend.apply`."""
        return await self._writes.run(partial(writing.apply_to, session_id=session_id, change=change))

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
        return await self._reads.run(
            partial(
                reading.read_queries,
                session_id=session_id,
                after=after,
                before=before,
                limit=limit,
                owner=owner,
            )
        )

    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        """See `SessionBackend.find`."""
        below = read_cursor(cursor)
        return await self._reads.run(partial(reading.find_in, wanted=wanted, below=below, limit=limit))

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """See `SessionBackend.delete`."""
        return await self._writes.run(
            partial(writing.delete_from, session_id=session_id, forget_at=forget_at, owner=owner)
        )

    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        """See `SessionBackend.claim_expired`."""
        return await self._writes.run(
            partial(writing.claim_from, now=now, lease=lease, limit=limit, max_bytes=max_bytes)
        )

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """See `SessionBackend.archive`."""
        report = await self._writes.run(partial(archiving.archive_in, sessions=sessions, at=at))
        if report.archived:
            await deliver(report.archived)
            await self._writes.run(partial(archiving.settle_in, sessions=report.archived))
        return report.outcomes

    async def copies(self, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
        """See `SessionBackend.copies`."""
        return await self._reads.run(partial(reading.copies_in, session_ids=session_ids))

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """See `SessionBackend.absorb`."""
        return await self._writes.run(partial(writing.absorb_into, sessions=sessions, tickets=tickets))

    async def ticket(self, session_id: UUID, *, now: datetime) -> str:
        """See `SessionBackend.ticket`."""
        return await self._writes.run(partial(writing.ticket_of, session_id=session_id, now=now))

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """See `SessionBackend.evict`."""
        return await self._writes.run(partial(writing.evict_from, session_id=session_id, version=version, head=head))

    async def purge(
        self,
        *,
        archived_before: datetime,
        now: datetime,
        limit: int,
        among: Sequence[UUID] | None = None,
        dry_run: bool = False,
    ) -> Purged:
        """See `SessionBackend.purge`."""
        purge = partial(
            writing.purge_from, archived_before=archived_before, now=now, limit=limit, among=among, dry_run=dry_run
        )
        return await (self._reads if dry_run else self._writes).run(purge)

    async def aggregate(self, wanted: SessionFilter, *, without: Collection[UUID] = ()) -> SessionTotals:
        """See `SessionBackend.aggregate`."""
        return await self._reads.run(partial(totals_in, wanted=wanted, without=without))

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        """See `SessionBackend.measure`."""
        return await self._apart(
            partial(measuring.measure_in, wanted=wanted, now=now, without=without, with_ids=with_ids)
        )

    async def metrics(self, wanted: StatsFilter, *, cursor: str | None = None, limit: int) -> Page[SessionMetrics]:
        """See `SessionBackend.metrics`."""
        return await self._apart(partial(measuring.metrics_in, wanted=wanted, cursor=cursor, limit=limit))

    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        """See `SessionBackend.record`."""
        return await self._writes.run(partial(recording.record_in, sessions=sessions, at=at))

    async def roll_up(self, *, limit: int) -> int:
        """See `SessionBackend.roll_up`."""
        return await self._writes.run(partial(rolling.roll_up_in, limit=limit))

    async def _apart(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run what may read for long on a connection of its own, so that nobody who reads a session waits for it."""
        self._reads  # noqa: B018 (closed, it says so)
        thread = await DatabaseThread.connect(self.path, busy_timeout_s=READ_PATIENCE_S)
        try:
            return await thread.run(work)
        finally:
            await thread.close()

    async def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
        """See `SessionBackend.start_sweep`."""
        return await self._writes.run(partial(writing.start_sweep_in, now=now, interval=interval))


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
