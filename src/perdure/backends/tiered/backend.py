"""Two tiers as one backend; which of them must hold a write before it is acknowledged is the caller's choice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal
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
    Tombstone,
)
from perdure.backends.tiered.absorbing import HotAbsorption
from perdure.backends.tiered.cached import CachedArchive
from perdure.backends.tiered.hot import HotSessions
from perdure.backends.tiered.in_flight import InFlight, under_way
from perdure.backends.tiered.listing import HotListing
from perdure.backends.tiered.measuring import HotStatistics
from perdure.backends.tiered.sweeping import HotSweep
from perdure.backends.tiered.tier import Role, Tier, TierTimes, TierWatcher
from perdure.changes import Applied, SessionChange
from perdure.errors import ConfigurationError
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

__all__ = ["TieredBackend"]

log = EventLog("perdure.tiers")


class TieredBackend:
    """A `SessionBackend` made of two others. Both are opened and closed by it.

    `acknowledge="archive"`: a write is acknowledged when the archive holds it; the hot tier is a cache of what was
    read, at most `times.cache_ttl` old, and may vanish. `acknowledge="hot"`: active sessions live in the hot tier, and
    are as durable as that is; the archive gets them when they have expired.

    `watcher` is told when a tier stops answering as it should, and when it does again. `seconds` is a clock that never
    goes back.

    Raises:
        ConfigurationError: `hot` offers no cache, and `acknowledge="archive"` wants one.
    """

    cache = None

    def __init__(
        self,
        hot: SessionBackend,
        archive: SessionBackend,
        *,
        acknowledge: Literal["archive", "hot"] = "archive",
        times: TierTimes | None = None,
        watcher: TierWatcher | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        if acknowledge == "archive" and hot.cache is None:
            raise ConfigurationError(f"{hot.name} cannot be a cache in front of an archive; use acknowledge='hot'")
        self.acknowledge = acknowledge
        times = TierTimes() if times is None else times
        self.in_flight = InFlight()

        def tier(role: Role, backend: SessionBackend, timeout: timedelta) -> Tier:
            return Tier(role, backend, timeout=timeout, retry_after=times.retry_after, watcher=watcher)

        self._hot = tier("hot", hot, times.hot_timeout)
        self._archive = tier("archive", archive, times.archive_timeout)
        self._through_archive = CachedArchive(self._hot, self._archive, cache_ttl=times.cache_ttl, seconds=seconds)
        self._in_hot = HotSessions(self._hot, self._archive, seconds=seconds)
        self._sweep = HotSweep(self._hot, self._archive, self._in_hot.losses)
        self._absorption = HotAbsorption(self._hot, self._archive, self._sweep)
        self._listing = HotListing(self._hot, self._archive)
        self._statistics = HotStatistics(self._hot, self._archive)

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self._hot.backend.name} over {self._archive.backend.name}"

    @property
    def schema(self) -> SchemaAdmin | None:
        """That of the archive."""
        return self._archive.backend.schema

    @property
    def _hot_first(self) -> bool:
        return self.acknowledge == "hot"

    @property
    def _truth(self) -> Tier:
        """The tier that a write must reach, without which nothing works."""
        return self._hot if self._hot_first else self._archive

    async def open(self) -> None:
        """See `SessionBackend.open`. Goes on without the tier that can be done without, until that answers."""
        other = self._archive if self._hot_first else self._hot
        await self._truth.open(needed=True)
        try:
            await other.open(needed=False)
            if overlooked := await self._overlooked():
                log.warning("tier.overlooked", tier="hot", backend=self._hot.backend.name, reason=overlooked)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """See `SessionBackend.aclose`."""
        await self.in_flight.finish()
        try:
            await self._hot.aclose()
        finally:
            await self._archive.aclose()

    async def health(self, *, now: datetime) -> BackendHealth:
        """See `SessionBackend.health`: well if both tiers are. A sweep is one of both."""
        began = time.perf_counter()
        hot, archive = await asyncio.gather(self._hot.health(now=now), self._archive.health(now=now))
        swept_at = (hot if self._hot_first else archive).last_swept_at
        overlooked = await self._overlooked() if hot.ok else None
        more = [warning for warning in (self._in_hot.losses.warning, overlooked) if warning is not None]
        tiers = {
            "hot": replace(hot, last_swept_at=swept_at, warnings=(*hot.warnings, *more)),
            "archive": replace(archive, last_swept_at=swept_at),
        }
        swept = (hot, archive) if self._hot_first else (archive,)
        return BackendHealth(
            self.name,
            ok=hot.ok and archive.ok,
            latency_ms=(time.perf_counter() - began) * 1000,
            last_swept_at=swept_at,
            due=sum(tier.due for tier in swept),
            due_since=min((tier.due_since for tier in swept if tier.due_since is not None), default=None),
            details={"acknowledge": self.acknowledge},
            error="; ".join(f"{tier.backend}: {tier.error}" for tier in (hot, archive) if tier.error) or None,
            warnings=tuple(f"{role}: {warning}" for role, tier in tiers.items() for warning in tier.warnings),
            tiers=tiers,
        )

    async def _overlooked(self) -> str | None:
        """What is wrong if the hot tier holds sessions although it is but a cache; None where it holds none."""
        if self._hot_first:
            return None
        page = await self._hot.attempt(lambda hot: hot.find(SessionFilter(), limit=1))
        if page is None or not page.items:
            return None
        return (
            "it holds sessions, which nobody looks at while acknowledge='archive': "
            "open it with acknowledge='hot' again, or `perdure copy` them to the archive"
        )

    @under_way
    async def create(self, session: StoredSession, *, fresh: bool = False) -> None:
        """See `SessionBackend.create`."""
        if self._hot_first:
            await self._in_hot.create(session, fresh=fresh)
        else:
            await self._archive.run(lambda archive: archive.create(session, fresh=fresh), stores=True)

    @under_way
    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionBackend.read`."""
        return await (self._in_hot if self._hot_first else self._through_archive).read(session_id, history=history)

    @under_way
    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """See `SessionBackend.apply`."""
        return await (self._in_hot if self._hot_first else self._through_archive).apply(session_id, change)

    @under_way
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
        if self._hot_first:
            return await self._in_hot.queries(session_id, after=after, before=before, limit=limit, owner=owner)
        return await self._archive.run(
            lambda archive: archive.queries(session_id, after=after, before=before, limit=limit, owner=owner)
        )

    @under_way
    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        """See `SessionBackend.find`."""
        if self._hot_first:
            return await self._listing.find(wanted, cursor=cursor, limit=limit)
        return await self._archive.run(lambda archive: archive.find(wanted, cursor=cursor, limit=limit))

    @under_way
    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """See `SessionBackend.delete`."""
        verbs = self._in_hot if self._hot_first else self._through_archive
        return await verbs.delete(session_id, forget_at=forget_at, owner=owner)

    @under_way
    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        """See `SessionBackend.claim_expired`."""
        if self._hot_first:
            return await self._sweep.claim_expired(now=now, lease=lease, limit=limit, max_bytes=max_bytes)
        return await self._archive.run(
            lambda archive: archive.claim_expired(now=now, lease=lease, limit=limit, max_bytes=max_bytes)
        )

    @under_way
    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """See `SessionBackend.archive`."""
        return await (self._sweep if self._hot_first else self._through_archive).archive(
            sessions, at=at, deliver=deliver
        )

    @under_way
    async def copies(self, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
        """See `SessionBackend.copies`: what hot keeps of it, else the archive."""
        if not self._hot_first:
            return await self._archive.run(lambda archive: archive.copies(session_ids))
        found = await self._hot.run(lambda hot: hot.copies(session_ids))
        absent = [session_id for session_id in session_ids if session_id not in found]
        return {**found, **(await self._archive.run(lambda archive: archive.copies(absent)) if absent else {})}

    @under_way
    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """See `SessionBackend.absorb`."""
        return await (self._absorption if self._hot_first else self._through_archive).absorb(sessions, tickets=tickets)

    @under_way
    async def ticket(self, session_id: UUID, *, now: datetime) -> str:
        """See `SessionBackend.ticket`."""
        return await self._truth.run(lambda truth: truth.ticket(session_id, now=now))

    @under_way
    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """See `SessionBackend.evict`."""
        verbs = self._in_hot if self._hot_first else self._through_archive
        return await verbs.evict(session_id, version=version, head=head)

    @under_way
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
        return await (self._sweep if self._hot_first else self._through_archive).purge(
            archived_before=archived_before, now=now, limit=limit, among=among, dry_run=dry_run
        )

    @under_way
    async def aggregate(self, wanted: SessionFilter, *, without: Collection[UUID] = ()) -> SessionTotals:
        """See `SessionBackend.aggregate`."""
        if self._hot_first:
            return await self._listing.aggregate(wanted, without=without)
        return await self._archive.run(lambda archive: archive.aggregate(wanted, without=without))

    @under_way
    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        """See `SessionBackend.measure`."""
        if self._hot_first:
            return await self._statistics.measure(wanted, now=now, without=without, with_ids=with_ids)
        return await self._archive.run(
            lambda archive: archive.measure(wanted, now=now, without=without, with_ids=with_ids)
        )

    @under_way
    async def metrics(self, wanted: StatsFilter, *, cursor: str | None = None, limit: int) -> Page[SessionMetrics]:
        """See `SessionBackend.metrics`."""
        if self._hot_first:
            return await self._statistics.metrics(wanted, cursor=cursor, limit=limit)
        return await self._archive.run(lambda archive: archive.metrics(wanted, cursor=cursor, limit=limit))

    @under_way
    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        """See `SessionBackend.record`."""
        if self._hot_first:
            return await self._statistics.record(sessions, at=at)
        return await self._archive.run(lambda archive: archive.record(sessions, at=at), stores=True)

    @under_way
    async def roll_up(self, *, limit: int) -> int:
        """See `SessionBackend.roll_up`: what the archive has to gather."""
        return await self._archive.run(lambda archive: archive.roll_up(limit=limit), stores=True)

    @under_way
    async def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
        """See `SessionBackend.start_sweep`."""
        return await self._truth.run(lambda truth: truth.start_sweep(now=now, interval=interval))
