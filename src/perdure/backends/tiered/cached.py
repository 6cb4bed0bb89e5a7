"""`acknowledge="archive"`: the archive is the truth for everything, and the hot tier a cache that fades.

A write commits in the archive, then drops the cached copy, then is acknowledged. A read takes the cached copy, or fills
it with a ticket that was taken before the archive was read. The hot tier may vanish at any time: nothing is lost, and
nothing fails.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from perdure.backends.protocol import Absorbed, Archived, Deliver, Purged, SessionBackend, SessionCache
from perdure.backends.tiered.tier import Tier
from perdure.changes import Applied, SessionChange
from perdure.models import StoredSession

__all__ = ["CachedArchive", "OwnWrites"]

T = TypeVar("T")


@dataclass(slots=True)
class _Written:
    """What is known of the writes to one session."""

    lowest: int = 0
    unknown: set[object] = field(default_factory=set)
    ends: float = 0.0


class OwnWrites:
    """What this store wrote of late, so that it takes no cached copy that lacks it, whatever became of the cache.

    For `cache_ttl` after a write a copy must have the version that the write gave, or is not taken at all where nobody
    knows; after that no older copy is left. It is what makes everyone read their own writes: when dropping failed, and
    when a cache that failed over brings back what was dropped.
    """

    def __init__(self, cache_ttl: timedelta, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._lifetime_s = cache_ttl.total_seconds()
        self._seconds = seconds
        self._written: dict[UUID, _Written] = {}

    def __len__(self) -> int:
        return len(self._written)

    def begin(self, session_id: UUID) -> object:
        """A write is on its way: until more is known, no copy is to be taken. Gives what `end` takes."""
        write = object()
        self._renewed(session_id).unknown.add(write)
        return write

    def end(self, session_id: UUID, write: object, *, version: int | None) -> None:
        """The write gave that version, below which no copy is to be taken; with None, nobody knows, or there is none.

        What other writes of the session made sure of stays so, in whatever order they end.
        """
        written = self._renewed(session_id)
        if version is None:
            written.unknown.add(write)
        else:
            written.unknown.discard(write)
            written.lowest = max(written.lowest, version)

    def takes(self, session_id: UUID, version: int) -> bool:
        """Whether a cached copy of that version may be taken."""
        written = self._known(session_id)
        return written is None or (not written.unknown and version >= written.lowest)

    def _known(self, session_id: UUID) -> _Written | None:
        written = self._written.get(session_id)
        return None if written is None or written.ends <= self._seconds() else written

    def _renewed(self, session_id: UUID) -> _Written:
        """What is known of the session, for another `cache_ttl`; what has ended is forgotten."""
        now = self._seconds()
        written = self._known(session_id) or _Written()
        written.ends = now + self._lifetime_s
        self._written.pop(session_id, None)
        self._written[session_id] = written
        while self._written:  # all live equally long, so that the oldest come first
            first = next(iter(self._written))
            if self._written[first].ends > now:
                break
            del self._written[first]
        return written


class CachedArchive:
    """The verbs that a cache in front of the archive makes different; everything else goes to the archive as it is."""

    def __init__(
        self, hot: Tier, archive: Tier, *, cache_ttl: timedelta, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._hot = hot
        self._archive = archive
        self._cache_ttl = cache_ttl
        self._own = OwnWrites(cache_ttl, seconds=seconds)

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionBackend.read`; at most `cache_ttl` old, and never without what this store wrote."""
        copy = await self._cached(lambda cache: cache.read(session_id, history=history))
        if copy is not None and self._own.takes(session_id, copy.version):
            return copy
        ticket: str | None = None
        if not self._hot.is_silent:  # otherwise the caller would wait for it twice
            ticket = await self._cached(lambda cache: cache.ticket(session_id))
        stored = await self._archive.run(lambda archive: archive.read(session_id, history=history))
        if stored is not None and ticket is not None:
            found, right, lifetime = stored, ticket, self._cache_ttl
            await self._cached(lambda cache: cache.fill(found, ticket=right, lifetime=lifetime), stores=True)
        return stored

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """See `SessionBackend.apply`."""
        write, version = self._own.begin(session_id), None
        try:
            applied = await self._archive.run(lambda archive: archive.apply(session_id, change), stores=True)
            version = applied.version
        finally:
            self._own.end(session_id, write, version=version)
            await self._drop([session_id])
        return applied

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """See `SessionBackend.delete`."""
        with_tombstone = partial(_delete, session_id=session_id, forget_at=forget_at, owner=owner)
        return await self._write([session_id], self._archive.run(with_tombstone, stores=True))

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """See `SessionBackend.archive`."""
        ids = [session.id for session in sessions]

        async def drop_and_deliver(those: Sequence[StoredSession]) -> None:
            await self._drop(ids)
            await deliver(those)

        async def move(archive: SessionBackend, deliver: Deliver) -> list[Archived]:
            return await archive.archive(sessions, at=at, deliver=deliver)

        return await self._write(ids, self._archive.run_delivering(move, drop_and_deliver))

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """See `SessionBackend.absorb`."""
        ids = [session.id for session in sessions]
        absorbing = self._archive.run(lambda archive: archive.absorb(sessions, tickets=tickets), stores=True)
        return await self._write(ids, absorbing)

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """See `SessionBackend.evict`."""
        evicting = self._archive.run(lambda archive: archive.evict(session_id, version=version, head=head))
        return await self._write([session_id], evicting)

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
            for session_id in purged.session_ids:
                self._own.end(session_id, self._own.begin(session_id), version=None)
            await self._drop(purged.session_ids)
        return purged

    async def _write(self, ids: Sequence[UUID], call: Awaitable[T]) -> T:
        """Commit in the archive, then drop the cached copies; also where the answer was lost, or the caller is gone."""
        writes = [(session_id, self._own.begin(session_id)) for session_id in ids]
        try:
            return await call
        finally:
            for session_id, write in writes:
                self._own.end(session_id, write, version=None)
            await self._drop(ids)

    async def _drop(self, ids: Sequence[UUID]) -> None:
        await self._cached(lambda cache: cache.drop(ids))

    async def _cached(self, call: Callable[[SessionCache], Awaitable[T]], *, stores: bool = False) -> T | None:
        """What the cache says; None where it does not answer."""

        async def ask(hot: SessionBackend) -> T:
            assert hot.cache is not None, "checked when the tiers were put together"
            return await call(hot.cache)

        return await self._hot.attempt(ask, stores=stores)


async def _delete(archive: SessionBackend, *, session_id: UUID, forget_at: datetime, owner: str | None) -> bool:
    return await archive.delete(session_id, forget_at=forget_at, owner=owner)
