"""Statistics in Redis: of what is kept from itself, of what retention removed from what it left.

Nothing here is of one instant: each session counts as it is when its turn comes. A session that comes or goes meanwhile
may count or not, but never twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from perdure.backends.cursors import SortKey, read_cursor
from perdure.backends.measuring import MeasuresTally, metrics_page
from perdure.backends.redis.codec import score_of
from perdure.backends.redis.keys import Layout
from perdure.backends.redis.listing import Listing, id_of
from perdure.backends.redis.reading import Reading
from perdure.backends.redis.scripting import script
from perdure.backends.redis.sending import Call, Wire, Word
from perdure.logs import EventLog
from perdure.models import Measured, Measures, Page, SessionMetrics, StatsFilter, StoredSession
from perdure.models.times import EPOCH, from_micros, to_micros

__all__ = ["AT_ONCE", "Measuring", "purged_text"]

log = EventLog("perdure.redis")

AT_ONCE = 200
"""Whole sessions that are held at a time."""


class Measuring:
    """`measure`, `metrics`, `record`."""

    def __init__(self, wire: Wire, layout: Layout, listing: Listing, reading: Reading) -> None:
        self._wire = wire
        self._layout = layout
        self._listing = listing
        self._reading = reading

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        """See `SessionBackend.measure`. Reads whole what is kept, a few hundred at a time, archived sessions too."""
        self._wire.require_open()
        counted, tally = set(without), MeasuresTally()
        async for ids in self._listing.matching(wanted.sessions(), batch=AT_ONCE):
            for measured in await self._kept([known for known in ids if known not in counted], now):
                counted.add(measured.facts.id)
                tally.add(measured, with_id=with_ids)
        async for measured in self._purged(wanted, None, batch=AT_ONCE):
            if measured.facts.id not in counted:
                tally.add(measured)
        return tally.measures()

    async def _kept(self, ids: Sequence[UUID], now: datetime) -> list[Measured]:
        found = []
        for known, session in zip(ids, await self._reading.read_many(ids), strict=True):
            if isinstance(session, StoredSession):
                found.append(Measured.of(session, now=now))
            elif session is not None:
                log.warning("session.unreadable", session_id=str(known), error=str(session))
        return found

    async def metrics(self, wanted: StatsFilter, *, cursor: str | None = None, limit: int) -> Page[SessionMetrics]:
        """See `SessionBackend.metrics`: as many of the kept and of the purged as the page may have, side by side."""
        self._wire.require_open()
        below, found = read_cursor(cursor), list[Measured]()
        async for ids in self._listing.matching(wanted.sessions(), batch=min(limit + 1, AT_ONCE), below=below):
            found += await self._kept(ids, EPOCH)
            if len(found) > limit:
                break
        kept = {measured.facts.id for measured in found}
        purged = list[Measured]()
        async for measured in self._purged(wanted, below, batch=limit + 1):
            purged += [measured] if measured.facts.id not in kept else []
            if len(purged) > limit:
                break
        return metrics_page([*found[: limit + 1], *purged], cursor=cursor, limit=limit)

    async def _purged(self, wanted: StatsFilter, below: SortKey | None, *, batch: int) -> AsyncIterator[Measured]:
        """What retention removed and the filter is about, newest first."""
        if wanted.until is not None:
            latest = wanted.until, UUID(int=0)
            below = latest if below is None else min(below, latest)
        lowest: Word = "" if wanted.since is None else score_of(wanted.since)
        while True:
            start: tuple[Word, Word] = ("", b"") if below is None else (score_of(below[0]), below[1].bytes)
            calls = [
                Call(script("purged"), bucket, self._layout.purged(bucket), (*start, lowest, batch))
                for bucket in range(self._layout.buckets)
            ]
            rows: list[tuple[SortKey, Any]] = []
            for reply in await self._wire.send_all(calls):
                if isinstance(reply, Exception):
                    raise reply
                rows += [((from_micros(int(score)), id_of(raw)), text) for raw, score, text in reply]
            rows = sorted(rows, key=lambda row: row[0], reverse=True)[:batch]
            for (_, session_id), text in rows:
                measured = _readable(session_id, text)
                if measured is not None and measured.matches(wanted):
                    yield measured
            if len(rows) < batch:
                return
            below = rows[-1][0]

    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        """See `SessionBackend.record`."""
        self._wire.require_open()
        calls = []
        for session in sessions:
            archived = replace(session, archived_at=at if session.archived_at is None else session.archived_at)
            bucket, (key, _) = self._layout.place(session.id)
            arguments = (session.id.bytes, session.version, score_of(session.created_at), purged_text(archived))
            calls.append(Call(script("record"), bucket, (key,), arguments, writes=True))
        counted = []
        for reply in await self._wire.send_all(calls):
            if isinstance(reply, Exception):
                raise reply
            counted.append(reply == 1)
        return counted


def purged_text(session: StoredSession) -> bytes:
    """What is left of an archived session, given whole, after retention; see `scripts/part_metrics.lua`."""
    assert session.archived_at is not None
    measured = Measured.of(session, now=session.archived_at)
    instants = (session.created_at, session.expires_at, session.last_accessed_at, session.archived_at)
    numbers = (session.total_queries, session.cache_hits)
    names = (session.type, session.assets, session.tags)
    owner = "" if session.user_id is None else f"={session.user_id}"
    rest = to_json([*names, *map(to_micros, instants), *numbers, measured.counts])
    return f"{owner}\0{session.version}\0".encode() + rest


def _readable(session_id: UUID, text: bytes | None) -> Measured | None:
    """What such a text says; None, and logged, where nobody can read it."""
    try:
        if text is None:
            raise ValueError("it is gone; has the server evicted it?")
        owner, version, rest = text.split(b"\0", 2)
        kind, assets, tags, created, expires, accessed, archived, queries, hits, counts = from_json(rest)
        facts = StoredSession(
            id=session_id,
            user_id=owner[1:].decode() if owner else None,
            type=kind,
            assets=tuple(assets),
            tags=tuple(tags),
            created_at=from_micros(created),
            expires_at=from_micros(expires),
            last_accessed_at=from_micros(accessed),
            archived_at=from_micros(archived),
            version=int(version),
            total_queries=queries,
            cache_hits=hits,
            sections={},
        )
        return Measured(facts, dict(counts))
    except (ValueError, TypeError, OverflowError) as error:
        log.warning("session.unmeasured", session_id=str(session_id), error=str(error))
        return None
