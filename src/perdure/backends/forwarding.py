"""Passing every call on to another backend: for whoever wants to see, hold up or refuse them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TypeAlias, TypeVar
from uuid import UUID

from perdure.backends.protocol import (
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

__all__ = ["ForwardingBackend", "ObservedBackend", "Surround"]

T = TypeVar("T")

Surround: TypeAlias = Callable[[str, str, str], AbstractContextManager[object]]
"""Gives what is entered around one call, told the tier, the backend's name and the method."""


class ForwardingBackend:
    """A `SessionBackend` that passes every call on to another, all of them by way of `pass_on`.

    Except `open`, `aclose` and `health`, which go straight through. The calls of a cache are `cache.read` and so on.
    """

    def __init__(self, inner: SessionBackend) -> None:
        self.inner = inner

    async def pass_on(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        """The answer of the backend behind it: to be overridden."""
        return await call()

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
        """That of the backend behind it, by way of `pass_on` too."""
        return None if self.inner.cache is None else _ForwardingCache(self, self.inner.cache)

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
        """See `SessionBackend.create`."""
        await self.pass_on("create", lambda: self.inner.create(session, fresh=fresh))

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionBackend.read`."""
        return await self.pass_on("read", lambda: self.inner.read(session_id, history=history))

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """See `SessionBackend.apply`."""
        return await self.pass_on("apply", lambda: self.inner.apply(session_id, change))

    async def queries(
        self, session_id: UUID, *, after: int = 0, before: int | None = None, limit: int, owner: str | None = None
    ) -> HistoryPage | None:
        """See `SessionBackend.queries`."""
        return await self.pass_on(
            "queries", lambda: self.inner.queries(session_id, after=after, before=before, limit=limit, owner=owner)
        )

    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        """See `SessionBackend.find`."""
        return await self.pass_on("find", lambda: self.inner.find(wanted, cursor=cursor, limit=limit))

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """See `SessionBackend.delete`."""
        return await self.pass_on("delete", lambda: self.inner.delete(session_id, forget_at=forget_at, owner=owner))

    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        """See `SessionBackend.claim_expired`."""
        return await self.pass_on(
            "claim_expired",
            lambda: self.inner.claim_expired(now=now, lease=lease, limit=limit, max_bytes=max_bytes),
        )

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """See `SessionBackend.archive`."""
        return await self.pass_on("archive", lambda: self.inner.archive(sessions, at=at, deliver=deliver))

    async def copies(self, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
        """See `SessionBackend.copies`."""
        return await self.pass_on("copies", lambda: self.inner.copies(session_ids))

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """See `SessionBackend.absorb`."""
        return await self.pass_on("absorb", lambda: self.inner.absorb(sessions, tickets=tickets))

    async def ticket(self, session_id: UUID, *, now: datetime) -> str:
        """See `SessionBackend.ticket`."""
        return await self.pass_on("ticket", lambda: self.inner.ticket(session_id, now=now))

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """See `SessionBackend.evict`."""
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
        """See `SessionBackend.purge`."""
        return await self.pass_on(
            "purge",
            lambda: self.inner.purge(
                archived_before=archived_before, now=now, limit=limit, among=among, dry_run=dry_run
            ),
        )

    async def aggregate(self, wanted: SessionFilter, *, without: Collection[UUID] = ()) -> SessionTotals:
        """See `SessionBackend.aggregate`."""
        return await self.pass_on("aggregate", lambda: self.inner.aggregate(wanted, without=without))

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        """See `SessionBackend.measure`."""
        return await self.pass_on(
            "measure", lambda: self.inner.measure(wanted, now=now, without=without, with_ids=with_ids)
        )

    async def metrics(self, wanted: StatsFilter, *, cursor: str | None = None, limit: int) -> Page[SessionMetrics]:
        """See `SessionBackend.metrics`."""
        return await self.pass_on("metrics", lambda: self.inner.metrics(wanted, cursor=cursor, limit=limit))

    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        """See `SessionBackend.record`."""
        return await self.pass_on("record", lambda: self.inner.record(sessions, at=at))

    async def roll_up(self, *, limit: int) -> int:
        """See `SessionBackend.roll_up`."""
        return await self.pass_on("roll_up", lambda: self.inner.roll_up(limit=limit))

    async def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
        """See `SessionBackend.start_sweep`."""
        return await self.pass_on("start_sweep", lambda: self.inner.start_sweep(now=now, interval=interval))


class ObservedBackend(ForwardingBackend):
    """A `SessionBackend` with something entered around each call of the one behind it, in the caller's context."""

    def __init__(self, inner: SessionBackend, surround: Surround, *, tier: str) -> None:
        super().__init__(inner)
        self.tier = tier
        self._surround = surround

    async def pass_on(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        """The answer of the backend behind it."""
        with self._surround(self.tier, self.name, method):
            return await call()


class _ForwardingCache:
    """A `SessionCache` whose calls go by way of the backend that offers it."""

    def __init__(self, backend: ForwardingBackend, inner: SessionCache) -> None:
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
