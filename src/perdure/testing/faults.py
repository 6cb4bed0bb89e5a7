"""Breaking a backend on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeVar
from uuid import UUID

from perdure.backends import (
    Absorbed,
    Archived,
    BackendHealth,
    Claimed,
    Copy,
    Deliver,
    HistoryPage,
    Purged,
    SchemaAdmin,
    SessionBackend,
    SessionCache,
    Tombstone,
)
from perdure.changes import Applied, SessionChange
from perdure.errors import BackendUnavailableError
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

__all__ = ["Fault", "FaultyBackend", "Moment"]

T = TypeVar("T")


class Moment(Enum):
    """Where in a call the fault strikes."""

    BEFORE = "before"
    """The call never reached the backend."""
    AFTER = "after"
    """The backend did its work, and the answer was lost."""
    CANCEL_BEFORE = "cancel before"
    """The caller is cancelled before the backend did anything."""
    CANCEL_AFTER = "cancel after"
    """The caller is cancelled after the backend did its work."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What strikes, and at which call: the first is 1. `method` counts calls of that method alone."""

    call: int
    moment: Moment
    method: str | None = None


class FaultyBackend:
    """A `SessionBackend` that passes every call on to another, and fails where the plan says so.

    `calls` lists the methods called so far; `open`, `aclose` and `health` neither count nor fail. With
    `calls_until_dead`, every call from that one on fails before it reaches the backend, as if the process was gone.
    """

    def __init__(
        self, inner: SessionBackend, faults: Sequence[Fault] = (), *, calls_until_dead: int | None = None
    ) -> None:
        self.inner = inner
        self.faults = list(faults)
        self.calls: list[str] = []
        self.calls_until_dead = calls_until_dead

    @property
    def name(self) -> str:
        """That of the backend behind it."""
        return self.inner.name

    @property
    def schema(self) -> SchemaAdmin | None:
        """That of the backend behind it."""
        return self.inner.schema

    @property
    def cache(self) -> SessionCache | None:
        """That of the backend behind it, which fails like the rest: its calls are `cache.read` and so on."""
        return None if self.inner.cache is None else _FaultyCache(self, self.inner.cache)

    async def open(self) -> None:
        """Open the backend behind it."""
        await self.inner.open()

    async def aclose(self) -> None:
        """Close the backend behind it."""
        await self.inner.aclose()

    async def health(self, *, now: datetime) -> BackendHealth:
        """How the backend behind it is."""
        return await self.inner.health(now=now)

    async def create(self, session: StoredSession, *, fresh: bool = False) -> None:
        """Passed on, or failed."""
        await self.pass_on("create", lambda: self.inner.create(session, fresh=fresh))

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """Passed on, or failed."""
        return await self.pass_on("read", lambda: self.inner.read(session_id, history=history))

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """Passed on, or failed."""
        return await self.pass_on("apply", lambda: self.inner.apply(session_id, change))

    async def queries(
        self, session_id: UUID, *, after: int = 0, before: int | None = None, limit: int, owner: str | None = None
    ) -> HistoryPage | None:
        """Passed on, or failed."""
        return await self.pass_on(
            "queries", lambda: self.inner.queries(session_id, after=after, before=before, limit=limit, owner=owner)
        )

    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        """Passed on, or failed."""
        return await self.pass_on("find", lambda: self.inner.find(wanted, cursor=cursor, limit=limit))

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """Passed on, or failed."""
        return await self.pass_on("delete", lambda: self.inner.delete(session_id, forget_at=forget_at, owner=owner))

    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        """Passed on, or failed."""
        return await self.pass_on(
            "claim_expired",
            lambda: self.inner.claim_expired(now=now, lease=lease, limit=limit, max_bytes=max_bytes),
        )

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """Passed on, or failed."""
        return await self.pass_on("archive", lambda: self.inner.archive(sessions, at=at, deliver=deliver))

    async def copies(self, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
        """Passed on, or failed."""
        return await self.pass_on("copies", lambda: self.inner.copies(session_ids))

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """Passed on, or failed."""
        return await self.pass_on("absorb", lambda: self.inner.absorb(sessions, tickets=tickets))

    async def ticket(self, session_id: UUID, *, now: datetime) -> str:
        """Passed on, or failed."""
        return await self.pass_on("ticket", lambda: self.inner.ticket(session_id, now=now))

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """Passed on, or failed."""
        return await self.pass_on("evict", lambda: self.inner.evict(session_id, version=version, head=head))

    async def purge(
        self,
        *,
        archived_before: datetime,
        now: datetime,
        limit: int,
        among: Sequence[UUID] | None = None,
        dry_run: bool = False,
    ) -> Purged:
        """Passed on, or failed."""
        return await self.pass_on(
            "purge",
            lambda: self.inner.purge(
                archived_before=archived_before, now=now, limit=limit, among=among, dry_run=dry_run
            ),
        )

    async def aggregate(self, wanted: SessionFilter, *, without: Collection[UUID] = ()) -> SessionTotals:
        """Passed on, or failed."""
        return await self.pass_on("aggregate", lambda: self.inner.aggregate(wanted, without=without))

    async def measure(self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = ()) -> Measures:
        """Passed on, or failed."""
        return await self.pass_on("measure", lambda: self.inner.measure(wanted, now=now, without=without))

    async def metrics(self, wanted: StatsFilter, *, cursor: str | None = None, limit: int) -> Page[SessionMetrics]:
        """Passed on, or failed."""
        return await self.pass_on("metrics", lambda: self.inner.metrics(wanted, cursor=cursor, limit=limit))

    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        """Passed on, or failed."""
        return await self.pass_on("record", lambda: self.inner.record(sessions, at=at))

    async def roll_up(self, *, limit: int) -> int:
        """Passed on, or failed."""
        return await self.pass_on("roll_up", lambda: self.inner.roll_up(limit=limit))

    async def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
        """Passed on, or failed."""
        return await self.pass_on("start_sweep", lambda: self.inner.start_sweep(now=now, interval=interval))

    async def pass_on(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        """What the call gives, unless the plan says that it fails."""
        self.calls.append(method)
        moment = self._moment(method)
        if moment is Moment.BEFORE:
            raise BackendUnavailableError(self.name, f"a fault before {method}, call {len(self.calls)}")
        if moment is Moment.CANCEL_BEFORE:
            raise asyncio.CancelledError
        answer = await call()
        if moment is Moment.AFTER:
            raise BackendUnavailableError(self.name, f"a fault after {method}, call {len(self.calls)}")
        if moment is Moment.CANCEL_AFTER:
            raise asyncio.CancelledError
        return answer

    def _moment(self, method: str) -> Moment | None:
        if self.calls_until_dead is not None and len(self.calls) >= self.calls_until_dead:
            return Moment.BEFORE
        for fault in self.faults:
            counted = len(self.calls) if fault.method is None else self.calls.count(fault.method)
            if fault.method in (None, method) and fault.call == counted:
                return fault.moment
        return None


class _FaultyCache:
    """A `SessionCache` whose calls are counted, and fail, with those of the backend that offers it."""

    def __init__(self, backend: FaultyBackend, inner: SessionCache) -> None:
        self._backend = backend
        self._inner = inner

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        return await self._backend.pass_on("cache.read", lambda: self._inner.read(session_id, history=history))

    async def ticket(self, session_id: UUID) -> str:
        return await self._backend.pass_on("cache.ticket", lambda: self._inner.ticket(session_id))

    async def fill(self, session: StoredSession, *, ticket: str, lifetime: timedelta) -> bool:
        return await self._backend.pass_on(
            "cache.fill", lambda: self._inner.fill(session, ticket=ticket, lifetime=lifetime)
        )

    async def drop(self, session_ids: Sequence[UUID]) -> None:
        await self._backend.pass_on("cache.drop", lambda: self._inner.drop(session_ids))
