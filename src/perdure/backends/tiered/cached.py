"""`acknowledge="archive"`: the archive is the truth for everything, and the hot tier a cache that fades.

A write commits in the archive, then drops the cached copy, then is acknowledged. A read takes the cached copy, or fills
it with a ticket that was taken before the archive was read. The hot tier may vanish at any time: nothing is lost, and
nothing fails.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from perdure.backends.protocol import Absorbed, Archived, Deliver, Purged, SessionBackend, SessionCache
from perdure.backends.tiered.tier import Tier
from perdure.changes import Applied, SessionChange
from perdure.models import StoredSession

__all__ = ["CachedArchive", "OwnWrites"]

T = TypeVar("T")


class OwnWrites:
    """What this store wrote of late, so that it takes no cached copy that lacks it, whatever became of the cache.

    For `cache_ttl` after a write a copy must have the version that the write gave, or is not taken at all where nobody
    knows; after that no older copy is left. It is what makes everyone read their own writes: when dropping failed, and
    when a cache that failed over brings back what was dropped.
    """

    def __init__(self, cache_ttl: timedelta, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_s = cache_ttl.total_seconds()
        self._seconds = seconds
        self._lowest: dict[UUID, tuple[int | None, float]] = {}

    def note(self, session_id: UUID, version: int | None) -> None:
        """Copies below that version are not to be taken from now on; with None, no copy is."""
        now = self._seconds()
        self._lowest.pop(session_id, None)
        self._lowest[session_id] = version, now + self._lifetime_s
        while self._lowest:  # all live equally long, so that the oldest come first
            first = next(iter(self._lowest))
            if self._lowest[first][1] > now:
                return
            del self._lowest[first]

    def takes(self, session_id: UUID, version: int) -> bool:
        """Whether a cached copy of that version may be taken."""
        lowest, ends = self._lowest.get(session_id, (0, 0.0))
        return ends <= self._seconds() or (lowest is not None and version >= lowest)

    def distrusts(self, session_id: UUID) -> bool:
        """Whether no cached copy of it may be taken."""
        lowest, ends = self._lowest.get(session_id, (0, 0.0))
        return lowest is None and ends > self._seconds()


class CachedArchive:
    """The verbs that a cache in front of the archive makes different; everything else goes to the archive as it is."""

    def __init__(self, hot: Tier, archive: Tier, *, cache_ttl: timedelta) -> None:
        self._hot = hot
        self._archive = archive
        self._cache_ttl = cache_ttl
        self._own = OwnWrites(cache_ttl)

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionBackend.read`; at most `cache_ttl` old, and never without what this store wrote."""
        ticket: str | None = None
        if not self._own.distrusts(session_id):
            copy = await self._cached(lambda cache: cache.read(session_id, history=history))
            if copy is not None and self._own.takes(session_id, copy.version):
                return copy
            ticket = await self._cached(lambda cache: cache.ticket(session_id))
        stored = await self._archive.run(lambda archive: archive.read(session_id, history=history))
        if stored is not None and ticket is not None:
            found, right, lifetime = stored, ticket, self._cache_ttl
            await self._cached(lambda cache: cache.fill(found, ticket=right, lifetime=lifetime))
        return stored

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """See `SessionBackend.apply`."""
        applied = await self._write([session_id], lambda archive: archive.apply(session_id, change))
        self._own.note(session_id, applied.version)
        return applied

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """See `SessionBackend.delete`."""
        return await self._write(
            [session_id], lambda archive: archive.delete(session_id, forget_at=forget_at, owner=owner)
        )

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """See `SessionBackend.archive`."""
        ids = [session.id for session in sessions]

        async def drop_and_deliver(those: Sequence[StoredSession]) -> None:
            await self._drop(ids)
            await deliver(those)

        return await self._write(ids, lambda archive: archive.archive(sessions, at=at, deliver=drop_and_deliver))

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """See `SessionBackend.absorb`."""
        ids = [session.id for session in sessions]
        return await self._write(ids, lambda archive: archive.absorb(sessions, tickets=tickets))

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """See `SessionBackend.evict`."""
        return await self._write([session_id], lambda archive: archive.evict(session_id, version=version, head=head))

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
        purged = await self._archive.run(
            lambda archive: archive.purge(
                archived_before=archived_before, now=now, limit=limit, among=among, dry_run=dry_run
            )
        )
        if not dry_run and purged.session_ids:
            await self._drop(purged.session_ids)
        return purged

    async def _write(self, ids: Sequence[UUID], call: Callable[[SessionBackend], Awaitable[T]]) -> T:
        """Commit in the archive, then drop the cached copies; also where the answer was lost, or the caller is gone."""
        for session_id in ids:
            self._own.note(session_id, None)  # until the outcome is known
        try:
            return await self._archive.run(call)
        finally:
            await self._drop(ids)

    async def _drop(self, ids: Sequence[UUID]) -> None:
        for session_id in ids:
            self._own.note(session_id, None)
        await self._cached(lambda cache: cache.drop(ids))

    async def _cached(self, call: Callable[[SessionCache], Awaitable[T]]) -> T | None:
        """What the cache says; None where it does not answer."""

        async def ask(hot: SessionBackend) -> T:
            assert hot.cache is not None, "checked when the tiers were put together"
            return await call(hot.cache)

        return await self._hot.attempt(ask)
