"""The contract that every backend obeys, and that `perdure.testing.BackendConformance` tests.

A backend keeps sessions. Every method is atomic: on any error nothing changed, except with `BackendUnavailableError`,
after which nobody knows; then the same call may simply be made again. Backends read no clock: instants are passed in.
They decode no value and re-encode no text: what was stored comes back equal, character by character.

Every method may raise `BackendError` and what derives from it; no driver's own error escapes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, runtime_checkable
from uuid import UUID

from perdure.changes import Applied, SessionChange
from perdure.merging import AbsorbOutcome
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

__all__ = [
    "DUE_COUNTED",
    "Absorbed",
    "ArchiveOutcome",
    "Archived",
    "BackendHealth",
    "Claimed",
    "Copy",
    "Deliver",
    "HistoryPage",
    "Purged",
    "SchemaAdmin",
    "SessionBackend",
    "SessionCache",
    "Tombstone",
]

DUE_COUNTED = 1_000
"""As far as a backend counts what is due: more is a backlog, and to count it would take as long as to archive it."""

Deliver: TypeAlias = Callable[[Sequence[StoredSession]], Awaitable[None]]
"""Told of sessions that were archived; awaited before anything forgets that they have to be."""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Consecutive query bodies, oldest first; the first is at `first_position`; `total` is that of the session."""

    bodies: list[str]
    first_position: int
    total: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim took, oldest first; `unreadable` says of each session that it took and could not read, why."""

    sessions: list[StoredSession]
    unreadable: dict[UUID, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[StoredSession]:
        return iter(self.sessions)

    def __len__(self) -> int:
        return len(self.sessions)


@dataclass(frozen=True, slots=True)
class Absorbed:
    """What `absorb` did with each session, in the order given; `error` says why one `FAILED`."""

    session_id: UUID
    outcome: AbsorbOutcome
    error: str | None = None


class ArchiveOutcome(StrEnum):
    """What `archive` did with one session."""

    ARCHIVED = "archived"
    """It is in the archive, and that was delivered."""
    CHANGED = "changed"
    """It is not the copy that was claimed any more; it stays as it is."""
    DELETED = "deleted"
    """It was deleted meanwhile; it stays so."""
    FORKED = "forked"
    """The archive held work that this copy lacks; now it holds both, under a new version, and that was delivered."""
    FAILED = "failed"
    """This session could not be archived; the others were."""


@dataclass(frozen=True, slots=True)
class Archived:
    """What `archive` did with each session, in the order given; `error` says why one `FAILED`."""

    session_id: UUID
    outcome: ArchiveOutcome
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """Which state of a session is kept; two copies are the same only if version and head agree."""

    version: int
    head: str
    archived: bool


@dataclass(frozen=True, slots=True)
class Tombstone:
    """That a session was deleted, which is remembered until `forget_at`."""

    forget_at: datetime


@dataclass(frozen=True, slots=True)
class Purged:
    """What retention removed, or with a dry run would remove; `more` says whether `limit` cut it short."""

    session_ids: list[UUID]
    more: bool = False


@dataclass(frozen=True, slots=True)
class BackendHealth:
    """Whether a backend works, and what an operator would ask next."""

    backend: str
    ok: bool
    latency_ms: float
    last_swept_at: datetime | None = None
    due: int = 0
    """Sessions that were due for archiving at the instant asked about; counted to `DUE_COUNTED` at most."""
    due_since: datetime | None = field(default=None, kw_only=True)
    """Since when the one that is due longest has been; None where none is."""
    details: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    warnings: tuple[str, ...] = ()
    """What works, and yet should not stay as it is; one sentence each."""
    tiers: Mapping[str, BackendHealth] = field(default_factory=dict)
    """How each tier is, where there are several."""


class SessionCache(Protocol):
    """Copies of what another backend is the truth of, each for a short while; anything may be forgotten sooner.

    A place apart: the backend that offers it neither reads, lists, claims nor changes what is in it.
    """

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """The copy with its newest `history` queries (None: all); None where there is none, or it holds fewer."""

    async def ticket(self, session_id: UUID) -> str:
        """A single-use right to `fill` the place of that id, good for a minute; to be taken before the truth is read.

        `drop` voids it, so that a slow reader cannot bring back what has changed since. Readers that come at the same
        time may share one, and with it the instant at which it was taken.
        """

    async def fill(self, session: StoredSession, *, ticket: str, lifetime: timedelta) -> bool:
        """Keep a copy, whole or with the newest part of its history, until `lifetime` after the ticket was taken.

        It counts from the ticket, by the cache's own clock, since the copy is as old as that: however slow the reader
        was, nobody is given anything that had changed longer ago. It replaces an older copy. False where the ticket is
        void, or older than `lifetime`.
        """

    async def drop(self, session_ids: Sequence[UUID]) -> None:
        """Forget the copies of these ids, and void their tickets; one round trip."""


@runtime_checkable
class SchemaAdmin(Protocol):
    """What a backend with a schema offers to operators, before and without `open`."""

    async def create(self) -> None:
        """Make what is missing and bring the rest up to date. Repeatable, and safe in several processes at once."""

    async def upgrade(self) -> tuple[str | None, str]:
        """Migrate to the newest revision; gives the revision before and the one now.

        Raises:
            SchemaError: there is no database, or it is newer than this perdure.
        """

    async def verify(self) -> list[str]:
        """Every way in which the database differs from what this perdure expects, one sentence each; empty if none."""

    async def drop(self) -> None:
        """Remove everything that perdure keeps there. Not to be undone."""


class SessionBackend(Protocol):
    """Keeps sessions. Safe for any number of tasks of one event loop, and of processes on the same data."""

    @property
    def name(self) -> str:
        """What errors and health call it: "sqlite", "redis", …; never with a password in it."""

    @property
    def schema(self) -> SchemaAdmin | None:
        """For operators; None where there is no schema."""

    @property
    def cache(self) -> SessionCache | None:
        """For tiers: a place for copies that fade; None where reading it would be no faster than reading sessions."""

    async def open(self) -> None:
        """Connect, and make sure that the data can be used. Nothing happens before this.

        Raises:
            BackendUnavailableError: nobody answers.
            SchemaError: what is there is not, or not this version's, perdure data.
        """

    async def aclose(self) -> None:
        """Close what `open` opened; repeatable. Writes under way are finished first."""

    async def health(self, *, now: datetime) -> BackendHealth:
        """One cheap round trip; never raises: what is wrong is in the answer."""

    async def create(self, session: StoredSession, *, fresh: bool = False) -> None:
        """Keep a new session, whole.

        `fresh` says that the id was made for it just now, so that nobody elsewhere can hold it: a backend of several
        tiers need not look for it in all of them.

        Raises:
            SessionExistsError: the id is in use, or left a tombstone; nothing changed.
        """

    async def read(self, session_id: UUID, *, history: int | None = None) -> StoredSession | None:
        """The session with its newest `history` queries (None: all; 0: none), as of one instant; the counters are true.

        None if it is absent or deleted. Expired and archived ones are returned: the store judges. Never writes.
        """

    async def apply(self, session_id: UUID, change: SessionChange) -> Applied:
        """Apply a change, in one round trip and at a cost in the size of the change, never of the session.

        The queries get the next positions, without gaps. Keys merge by section: set ones replace, unset ones vanish,
        the rest stays; a key both unset and set is set. The version grows by one, `last_accessed_at` to `change.at`.
        An expiry only ever grows; it also makes the session due for archiving no earlier than then.

        Raises: the first of these that holds; nothing changed
            OutcomeUnknownError: see `perdure.changes.recall`; a repeat that is remembered gets its first answer.
            SessionNotFoundError: absent, deleted, or not `change.owner`'s.
            SessionError: archived, expired, another version, past a limit; in the order of `perdure.changes.check`.
        """

    async def queries(
        self,
        session_id: UUID,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        owner: str | None = None,
    ) -> HistoryPage | None:
        """The first `limit` queries with `after` < position < `before`; None if the session is absent or not `owner`'s.

        Where only `before` is given (`after` is 0), the page is the last `limit` before it: paging backwards.
        """

    async def find(self, wanted: SessionFilter, *, cursor: str | None = None, limit: int) -> Page[SessionSummary]:
        """One page of what matches, newest first by `(created_at, id)`.

        Costs the page (with several labels at once: a scan of the rarest), never the number of sessions. A session
        that exists from the first page to the last is on exactly one of them, whatever others write meanwhile. One
        that cannot be read does not hide the others: it is left out, and logged.

        Raises:
            InvalidCursorError: no cursor of a page before.
        """

    async def delete(self, session_id: UUID, *, forget_at: datetime, owner: str | None = None) -> bool:
        """Remove all content and leave a tombstone that keeps the id from coming back until `forget_at`.

        True if there was a session (of `owner`, where given). A tombstone is left either way, except where the
        session is another owner's: then nothing changed.
        """

    async def claim_expired(self, *, now: datetime, lease: timedelta, limit: int, max_bytes: int) -> Claimed:
        """Take up to `limit` sessions that expired at or before `now` and with which `archive` is not done yet.

        The longest due first, whole. They are not claimable again before `now + lease`; concurrent claims are
        disjoint; nothing else about them changes. Stops at `max_bytes` of content, but takes at least one. A session
        that cannot be read is claimed and named apart, so that it does not stop the rest.
        """

    async def archive(self, sessions: Sequence[StoredSession], *, at: datetime, deliver: Deliver) -> list[Archived]:
        """Move claimed sessions, given whole, to the archive as of `at`, many at once; safe to repeat after a crash.

        Version and head stay: nothing about them has changed but where they are kept. One that is archived already
        stays so, as of when it was; one that has another version or head by now is left alone. Then `deliver` is
        awaited with those that are in the archive, and only then are they due no longer: a crash before delivers them
        again. A session that cannot be moved fails alone. Durable on return.
        """

    async def copies(self, session_ids: Sequence[UUID]) -> dict[UUID, Copy | Tombstone]:
        """What is kept of each of these ids; those of which nothing is kept are left out. One round trip."""

    async def absorb(
        self, sessions: Sequence[StoredSession], *, tickets: Mapping[UUID, str] | None = None
    ) -> list[Absorbed]:
        """Take whole sessions from elsewhere, many at once; idempotent; see `perdure.merging.merge`.

        A tombstone is never overridden. With `tickets`, a session is only stored into an empty slot, and only with the
        ticket that was taken there. A session that cannot be stored fails alone. All others are durable on return.
        """

    async def ticket(self, session_id: UUID, *, now: datetime) -> str:
        """A single-use right to fill the empty slot of that id.

        To be taken before the source is read: `create`, `absorb`, `evict`, `delete` and `purge` of the id void it, so
        that a slow reader cannot bring back what has changed since. `purge` may void any that is an hour old.
        """

    async def evict(self, session_id: UUID, *, version: int, head: str) -> bool:
        """Forget this copy, without a tombstone, if it still is that version with that head, else False."""

    async def purge(
        self,
        *,
        archived_before: datetime,
        now: datetime,
        limit: int,
        among: Sequence[UUID] | None = None,
        dry_run: bool = False,
    ) -> Purged:
        """Retention: remove up to `limit` sessions that were archived before that instant, the longest archived first.

        With `among`, none but these. What they counted in statistics stays. Also forgets tombstones whose `forget_at`
        has passed at `now`. A dry run changes nothing.
        """

    async def aggregate(self, wanted: SessionFilter, *, without: Collection[UUID] = ()) -> SessionTotals:
        """What the matching sessions amount to, counted where they are; those in `without` do not count."""

    async def measure(
        self, wanted: StatsFilter, *, now: datetime, without: Collection[UUID] = (), with_ids: bool = False
    ) -> Measures:
        """What sessions amount to: those that are kept, and those that `purge` removed as they were then; each once.

        Sessions that were deleted or evicted do not count, nor do those in `without`. Those that are not archived have
        expired if they have at `now`. Each counts as what it is at some instant of the call. With `with_ids`, the
        answer names those that it counted and that are kept, at a cost in their number.

        Costs the sessions that are not archived; of the archive no more than the days and types of session that are
        asked about, and the users in them, where the backend is one to keep an archive in.
        """

    async def metrics(self, wanted: StatsFilter, *, cursor: str | None = None, limit: int) -> Page[SessionMetrics]:
        """One page of the metrics of each session that `measure` counts, newest first by `(created_at, session_id)`.

        The cursor is as that of `find`, with the same promises.
        """

    async def record(self, sessions: Sequence[StoredSession], *, at: datetime) -> list[bool]:
        """Let whole sessions count that are not kept, as if they had been archived at `at`, if not before, and purged.

        One that is kept counts as what it is; one that was deleted does not count, and that is False. Idempotent: of
        two records of a session the one of the higher version stays.
        """

    async def roll_up(self, *, limit: int) -> int:
        """Make `measure` cheaper, and its answer no other: gather what up to `limit` archived sessions count.

        How many were gathered; 0 where nothing is left to be. Safe in any number of processes at once.
        """

    async def start_sweep(self, *, now: datetime, interval: timedelta) -> bool:
        """Whether a sweep is due: none has started within `interval` before `now`. True to one caller of all processes,
        for whom the start is noted; an `interval` of zero always notes it.
        """
