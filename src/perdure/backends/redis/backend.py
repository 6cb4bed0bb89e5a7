"""Sessions in Redis: one server, or a cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from redis.asyncio import Redis

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
from perdure.backends.redis import checking
from perdure.backends.redis.address import RedisAddress
from perdure.backends.redis.caching import RedisCache
from perdure.backends.redis.keys import Layout
from perdure.backends.redis.listing import Listing
from perdure.backends.redis.meanings import NAME
from perdure.backends.redis.measuring import AT_ONCE, Measuring
from perdure.backends.redis.moving import Moving
from perdure.backends.redis.reading import Reading
from perdure.backends.redis.schema import RedisSchema
from perdure.backends.redis.sending import Wire
from perdure.backends.redis.servers import Cluster, Servers, Single
from perdure.backends.redis.writing import Writing
from perdure.backends.totals import Tally
from perdure.changes import Applied, SessionChange
from perdure.errors import PerdureError
from perdure.logs import EventLog
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

__all__ = ["RedisBackend"]

log = EventLog("perdure.redis")


class RedisBackend:
    """A `SessionBackend` on Redis, Valkey, or a cluster of either: version 6.2 or later, no modules.

    `url` says where it is and how it is used: see `RedisAddress`. What was acknowledged is as durable as the server is
    set up to be. A `client` that is passed in is used instead of the place that the URL names, and stays open.
    """

    name = NAME

    def __init__(self, url: str = "redis://localhost:6379/0", *, client: Redis | None = None) -> None:
        self.address = RedisAddress.of(url)
        self._layout = Layout(self.address.namespace, self.address.buckets)
        self._pool = None if client is None else client.connection_pool
        self.schema = RedisSchema(self.address, self._layout, self._new_wire)
        self._wire = self._new_wire()
        self._writing = Writing(self._wire, self._layout)
        self._reading = Reading(self._wire, self._layout)
        self._listing = Listing(self._wire, self._layout)
        self._moving = Moving(self._wire, self._layout, self._reading)
        self._measuring = Measuring(self._wire, self._layout, self._listing, self._reading)
        self.cache = RedisCache(self._wire, self._layout)

    def _new_wire(self) -> Wire:
        servers: Servers = (
            Cluster(self.address, self._layout) if self.address.cluster else Single(self.address, pool=self._pool)
        )
        return Wire(servers, timeout_s=self.address.timeout)

    async def open(self) -> None:
        """See `SessionBackend.open`.

        Raises:
            BackendUnavailableError: nobody answers, or not to this user.
            ConfigurationError: the server is too old, or with `strict` may throw sessions away.
            SchemaError: the data is laid out otherwise.
        """
        if self._wire.is_open:
            return
        await self._wire.open()
        try:
            checking.check_servers(await checking.facts_of(self._wire), self.address)
            await checking.check_layout(self._wire, self._layout)
            await checking.check_rights(self._wire, self._layout)
        except BaseException:
            await self._wire.aclose()
            raise

    async def aclose(self) -> None:
        """See `SessionBackend.aclose`."""
        await self._wire.aclose()

    async def health(self, *, now: datetime) -> BackendHealth:
        """See `SessionBackend.health`."""
        began = time.perf_counter()
        try:
            servers = await checking.facts_of(self._wire)  # once, so that a dead server is told at once
            (due, since), swept = await asyncio.gather(
                checking.count_due(self._wire, self._layout, now),
                checking.last_sweep(self._wire, self._layout),
            )
        except PerdureError as error:
            return BackendHealth(self.name, ok=False, latency_ms=_since(began), error=str(error))
        warnings = dict.fromkeys(warning for server in servers for warning in server.warnings)
        details = {"url": str(self.address), "namespace": self.address.namespace, **servers[0].details}
        if self.address.cluster:
            details["masters"] = len(servers)
        return BackendHealth(
            self.name,
            ok=True,
            latency_ms=_since(began),
            last_swept_at=swept,
            due=due,
            due_since=since,
            details=details,
            warnings=tuple(warnings),
        )

    async def create(self, session: StoredSession, *, fresh: bool = False) -> None:
        """See `SessionBackend.create`."""
        await self._writing.create(session)

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionBackend.read`."""
        return await self._reading.read(session_id, history=history)

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """See `SessionBackend.apply`."""
        return await self._writing.apply(session_id, change)

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
        return await self._reading.queries(session_id, after=after, before=before, limit=limit, owner=owner)

    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        """See `SessionBackend.find`."""
        return await self._listing.find(wanted, cursor=cursor, limit=limit)

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """See `SessionBackend.delete`."""
        return await self._writing.delete(session_id, forget_at=forget_at, owner=owner)

    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        """See `SessionBackend.claim_expired`."""
        return await self._moving.claim_expired(now=now, lease=lease, limit=limit, max_bytes=max_bytes)

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """See `SessionBackend.archive`."""
        return await self._moving.archive(sessions, at=at, deliver=deliver)

    async def copies(self, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
        """See `SessionBackend.copies`."""
        return await self._reading.copies(session_ids)

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """See `SessionBackend.absorb`."""
        return await self._moving.absorb(sessions, tickets=tickets)

    async def ticket(self, session_id: UUID, *, now: datetime) -> str:
        """See `SessionBackend.ticket`."""
        return await self._writing.ticket(session_id, now=now)

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """See `SessionBackend.evict`; many at once share their round trips."""
        return await self._writing.evict(session_id, version=version, head=head)

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
        return await self._moving.purge(
            archived_before=archived_before, now=now, limit=limit, among=among, dry_run=dry_run
        )

    async def aggregate(self, wanted: SessionFilter, *, without: Collection[UUID] = ()) -> SessionTotals:
        """See `SessionBackend.aggregate`. Reads every session that matches, whole, a few hundred at a time."""
        left_out, tally = frozenset(without), Tally()
        async for ids in self._listing.matching(wanted, batch=AT_ONCE):
            wanted_ids = [known for known in ids if known not in left_out]
            for known, session in zip(wanted_ids, await self._reading.read_many(wanted_ids), strict=True):
                if isinstance(session, StoredSession):
                    tally.add(session)
                elif session is not None:
                    log.warning("session.unreadable", session_id=str(known), error=str(session))
        return tally.totals()

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        """See `SessionBackend.measure`. Reads every session that matches, whole, a few hundred at a time."""
        return await self._measuring.measure(wanted, now=now, without=without, with_ids=with_ids)

    async def metrics(self, wanted: StatsFilter, *, cursor: str | None = None, limit: int) -> Page[SessionMetrics]:
        """See `SessionBackend.metrics`."""
        return await self._measuring.metrics(wanted, cursor=cursor, limit=limit)

    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        """See `SessionBackend.record`."""
        return await self._measuring.record(sessions, at=at)

    async def roll_up(self, *, limit: int) -> int:
        """See `SessionBackend.roll_up`: nothing to gather, as every session is looked at."""
        self._wire.require_open()
        return 0

    async def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
        """See `SessionBackend.start_sweep`."""
        return await self._writing.start_sweep(now=now, interval=interval)


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
