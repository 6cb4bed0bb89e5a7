"""Sessions in this process's memory: for tests and throw-away work, and the clearest reading of the contract.

Nothing here awaits, so that every method is atomic by itself within one event loop.
"""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from uuid import UUID

from uuid_utils.compat import uuid7

from perdure.backends.cursors import SortKey, read_cursor, write_cursor
from perdure.backends.labels import labels_of, wanted_labels
from perdure.backends.measuring import measures_of, metrics_page
from perdure.backends.memory_cache import CachedCopies, MemoryCache
from perdure.backends.protocol import (
    DUE_COUNTED,
    Absorbed,
    Archived,
    ArchiveOutcome,
    BackendHealth,
    Claimed,
    Copy,
    Deliver,
    HistoryPage,
    Purged,
    Tombstone,
)
from perdure.backends.totals import totals_of
from perdure.changes import Applied, SessionChange, apply_whole
from perdure.errors import BackendClosedError, SessionExistsError, SessionNotFoundError
from perdure.merging import AbsorbOutcome, merge
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
from perdure.models.times import EPOCH, to_micros

__all__ = ["MemoryBackend", "MemoryData"]


@dataclass
class MemoryData:
    """What outlives a `MemoryBackend`: hand the same to a second one to reopen it."""

    sessions: dict[UUID, StoredSession] = field(default_factory=dict)
    order: list[SortKey] = field(default_factory=list)
    due: dict[UUID, datetime] = field(default_factory=dict)
    tombstones: dict[UUID, datetime] = field(default_factory=dict)
    tickets: dict[UUID, tuple[str, datetime]] = field(default_factory=dict)
    purged: dict[UUID, Measured] = field(default_factory=dict)
    last_swept_at: datetime | None = None
    cached: CachedCopies = field(default_factory=CachedCopies)


class MemoryBackend:
    """A `SessionBackend` that keeps sessions in a dict. Listings with a filter scan what the filter leaves out."""

    name = "memory"
    schema = None

    def __init__(self, data: MemoryData | None = None, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._data = data if data is not None else MemoryData()
        self._is_open = False
        self.cache = MemoryCache(self._data.cached, seconds=seconds)

    @property
    def _kept(self) -> MemoryData:
        if not self._is_open:
            raise BackendClosedError(self.name)
        return self._data

    async def open(self) -> None:
        """Begin to answer."""
        self._is_open = True

    async def aclose(self) -> None:
        """Stop answering; the data stays with whoever holds it."""
        self._is_open = False

    async def health(self, *, now: datetime) -> BackendHealth:
        """Always well while open."""
        due = [at for at in self._data.due.values() if at <= now]
        return BackendHealth(
            self.name,
            ok=self._is_open,
            latency_ms=0.0,
            last_swept_at=self._data.last_swept_at,
            due=min(len(due), DUE_COUNTED),
            due_since=min(due, default=None),
            details={"sessions": len(self._data.sessions)},
            error=None if self._is_open else "not open",
        )

    async def create(self, session: StoredSession, *, fresh: bool = False) -> None:
        """See `SessionBackend.create`."""
        if session.id in self._kept.sessions or session.id in self._kept.tombstones:
            raise SessionExistsError(session.id)
        self._put(session.copy())

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """See `SessionBackend.read`."""
        session = self._kept.sessions.get(session_id)
        return None if session is None else session.copy(history=history)

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """See `SessionBackend.apply`."""
        session = self._kept.sessions.get(session_id)
        if session is None:
            raise SessionNotFoundError(session_id)
        before_it = session.expires_at, session.archived_at
        applied = apply_whole(session, change)
        if session.archived_at is None and before_it != (session.expires_at, None):
            self._kept.due[session_id] = session.expires_at
        return applied

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
        session = self._kept.sessions.get(session_id)
        if session is None or (owner is not None and session.user_id != owner):
            return None
        last = session.total_queries if before is None else min(before - 1, session.total_queries)
        first = after + 1
        if before is not None and after == 0:
            first = max(first, last - limit + 1)
        last = min(last, first + limit - 1)
        return HistoryPage(session.queries[first - 1 : max(last, first - 1)], first, session.total_queries)

    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        """See `SessionBackend.find`."""
        found: list[SessionSummary] = []
        for session in self._matching(wanted, below=read_cursor(cursor)):
            if len(found) == limit:
                last = found[-1]
                return Page(found, write_cursor((last.created_at, last.id)))
            found.append(SessionSummary.of(session))
        return Page(found)

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """See `SessionBackend.delete`."""
        session = self._kept.sessions.get(session_id)
        if session is not None and owner is not None and session.user_id != owner:
            return False
        self._remove(session_id)
        purged = self._kept.purged.get(session_id)
        if purged is not None and (session is not None or owner in (None, purged.facts.user_id)):
            del self._kept.purged[session_id]
        known = self._kept.tombstones.get(session_id, forget_at)
        self._kept.tombstones[session_id] = max(known, forget_at)
        return session is not None

    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        """See `SessionBackend.claim_expired`."""
        claimed: list[StoredSession] = []
        size = 0
        for due_at, session_id in sorted((at, known) for known, at in self._kept.due.items() if at <= now):
            session = self._kept.sessions[session_id]
            size += session.size_bytes
            if len(claimed) == limit or (claimed and size > max_bytes):
                break
            assert due_at <= now
            self._kept.due[session_id] = now + lease
            claimed.append(session.copy())
        return Claimed(claimed)

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """See `SessionBackend.archive`."""
        report = self.archive_each(sessions, at)
        archived = [
            self._kept.sessions[done.session_id].copy() for done in report if done.outcome is ArchiveOutcome.ARCHIVED
        ]
        if archived:
            await deliver(archived)
        self.settle(archived)
        return report

    def archive_each(self, sessions: Sequence[StoredSession], at: datetime) -> list[Archived]:
        """What `archive` does before it delivers. The sessions stay due, so that a crash delivers them again."""
        return [Archived(session.id, self._archive_one(session, at)) for session in sessions]

    def settle(self, sessions: Sequence[StoredSession]) -> None:
        """What `archive` does after it has delivered: those that are still the same are due no longer."""
        for session in sessions:
            kept = self._kept.sessions.get(session.id)
            if kept is not None and (kept.version, kept.head) == (session.version, session.head):
                self._kept.due.pop(session.id, None)

    def _archive_one(self, session: StoredSession, at: datetime) -> ArchiveOutcome:
        kept = self._kept.sessions.get(session.id)
        if kept is None or (kept.version, kept.head) != (session.version, session.head):
            return ArchiveOutcome.DELETED if session.id in self._kept.tombstones else ArchiveOutcome.CHANGED
        kept.archived_at = at if kept.archived_at is None else kept.archived_at
        return ArchiveOutcome.ARCHIVED

    async def copies(self, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
        """See `SessionBackend.copies`."""
        found: dict[UUID, Copy | Tombstone] = {}
        for session_id in session_ids:
            if (session := self._kept.sessions.get(session_id)) is not None:
                found[session_id] = Copy(session.version, session.head, session.archived_at is not None)
            elif session_id in self._kept.tombstones:
                found[session_id] = Tombstone(self._kept.tombstones[session_id])
        return found

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """See `SessionBackend.absorb`."""
        report = []
        for session in sessions:
            try:
                report.append(Absorbed(session.id, self._absorb_one(session, tickets)))
            except (AttributeError, TypeError, ValueError, OverflowError) as error:
                report.append(Absorbed(session.id, AbsorbOutcome.FAILED, str(error)))
        return report

    def _absorb_one(self, session: StoredSession, tickets: Mapping[UUID, str] | None) -> AbsorbOutcome:
        kept = self._kept.sessions.get(session.id)
        if session.id in self._kept.tombstones:
            return AbsorbOutcome.DELETED
        if tickets is not None:
            ticket, _ = self._kept.tickets.get(session.id, (None, None))
            if kept is not None or ticket is None or tickets.get(session.id) != ticket:
                return AbsorbOutcome.REFUSED
        outcome, result = (AbsorbOutcome.STORED, session) if kept is None else merge(kept, session)
        if outcome is not AbsorbOutcome.UNCHANGED:
            _refuse_what_no_column_takes(result)
            self._remove(session.id)
            self._put(result.copy())
        self._kept.tickets.pop(session.id, None)
        return outcome

    async def ticket(self, session_id: UUID, *, now: datetime) -> str:
        """See `SessionBackend.ticket`."""
        ticket, _ = self._kept.tickets.setdefault(session_id, (uuid7().hex, now))
        return ticket

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """See `SessionBackend.evict`."""
        session = self._kept.sessions.get(session_id)
        self._kept.tickets.pop(session_id, None)
        if session is None or (session.version, session.head) != (version, head):
            return False
        self._remove(session_id)
        self._kept.purged.pop(session_id, None)
        return True

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
        chosen_among = None if among is None else set(among)
        old = sorted(
            (session.archived_at, session.id)
            for session in self._kept.sessions.values()
            if session.archived_at is not None and session.archived_at < archived_before
            if chosen_among is None or session.id in chosen_among
        )
        chosen = [session_id for _, session_id in old[:limit]]
        if not dry_run:
            for session_id in chosen:
                self._kept.purged[session_id] = Measured.of(self._kept.sessions[session_id], now=now)
                self._remove(session_id)
            self._forget(now)
        return Purged(chosen, more=len(old) > limit)

    async def aggregate(self, wanted: SessionFilter, *, without: Collection[UUID] = ()) -> SessionTotals:
        """See `SessionBackend.aggregate`."""
        return totals_of(session for session in self._matching(wanted, below=None) if session.id not in without)

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        """See `SessionBackend.measure`."""
        counted = (each for each in self._measured(wanted, now) if each.facts.id not in without)
        return measures_of(counted, with_ids=with_ids)

    async def metrics(self, wanted: StatsFilter, *, cursor: str | None = None, limit: int) -> Page[SessionMetrics]:
        """See `SessionBackend.metrics`."""
        return metrics_page(self._measured(wanted, EPOCH), cursor=cursor, limit=limit)

    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        """See `SessionBackend.record`."""
        return [self._record_one(session, at) for session in sessions]

    def _record_one(self, session: StoredSession, at: datetime) -> bool:
        if session.id in self._kept.tombstones:
            return False
        if session.id in self._kept.sessions:
            return True
        known = self._kept.purged.get(session.id)
        if known is None or known.facts.version < session.version:
            archived_at = at if session.archived_at is None else session.archived_at
            self._kept.purged[session.id] = Measured.of(replace(session, archived_at=archived_at), now=at)
        return True

    def _measured(self, wanted: StatsFilter, now: datetime) -> Iterator[Measured]:
        """Every session that counts."""
        for session in self._matching(wanted.sessions(), below=None):
            yield Measured.of(session, now=now)
        kept = self._kept.sessions
        yield from (each for known, each in self._kept.purged.items() if known not in kept and each.matches(wanted))

    async def roll_up(self, *, limit: int) -> int:
        """Nothing to gather: every session is looked at."""
        self._kept  # noqa: B018 (closed, it says so)
        return 0

    async def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
        """See `SessionBackend.start_sweep`."""
        last = self._kept.last_swept_at
        if last is not None and interval and last <= now < last + interval:
            return False
        self._kept.last_swept_at = now
        return True

    def _matching(self, wanted: SessionFilter, *, below: SortKey | None) -> Iterator[StoredSession]:
        """What matches, newest first, from below a sort key on."""
        needed = set(wanted_labels(wanted))
        end = len(self._kept.order) if below is None else bisect_left(self._kept.order, below)
        for created_at, session_id in reversed(self._kept.order[:end]):
            session = self._kept.sessions[session_id]
            if (
                needed <= set(labels_of(session.user_id, session.type, session.assets, session.tags))
                and (wanted.archived is None or wanted.archived == (session.archived_at is not None))
                and (wanted.created_after is None or created_at >= wanted.created_after)
                and (wanted.created_before is None or created_at < wanted.created_before)
            ):
                yield session

    def _put(self, session: StoredSession) -> None:
        self._kept.sessions[session.id] = session
        insort(self._kept.order, (session.created_at, session.id))
        if session.archived_at is None:
            self._kept.due[session.id] = session.expires_at
        self._kept.tickets.pop(session.id, None)

    def _remove(self, session_id: UUID) -> None:
        session = self._kept.sessions.pop(session_id, None)
        if session is not None:
            del self._kept.order[bisect_left(self._kept.order, (session.created_at, session_id))]
        self._kept.due.pop(session_id, None)
        self._kept.tickets.pop(session_id, None)

    def _forget(self, now: datetime) -> None:
        """Drop what served its time: old tombstones, and tickets whose taker never came back."""
        self._kept.tombstones = {known: at for known, at in self._kept.tombstones.items() if at > now}
        abandoned = now - timedelta(hours=1)
        self._kept.tickets = {known: given for known, given in self._kept.tickets.items() if given[1] > abandoned}


def _refuse_what_no_column_takes(session: StoredSession) -> None:
    """Raise for a fact that is not of its type, as a database would."""
    entries = (pair for section in session.sections.values() for pair in section.items())
    for text in (session.type, session.head, *session.assets, *session.tags, *chain(*entries), *session.queries):
        text.encode()
    for instant in (session.created_at, session.expires_at, session.last_accessed_at):
        to_micros(instant)
    session.version.to_bytes(8, signed=True)
