"""The steps that conformance tests are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from perdure.backends import ArchiveOutcome, SessionBackend
from perdure.models import SessionFilter, StatsFilter, StoredQuery, StoredSession
from perdure.testing.builders import START, stored_query, stored_session

__all__ = [
    "ANY_SIZE",
    "EXPIRY",
    "FOREVER",
    "HOUR",
    "MICROSECOND",
    "MINUTE",
    "OpenBackend",
    "archived",
    "archived_session",
    "claimed_ids",
    "created",
    "listed",
    "measured",
    "numbered",
    "numbered_session",
    "rolled_up",
    "whole",
]

OpenBackend: TypeAlias = Callable[[], Awaitable[SessionBackend]]
"""What the fixture `open_backend` is."""

MICROSECOND = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
EXPIRY = START + HOUR
"""When sessions of `stored_session` expire."""
FOREVER = START + timedelta(days=3650)
ANY_SIZE = 2**40


async def created(backend: SessionBackend, **facts: Any) -> StoredSession:
    """A session of `stored_session` that the backend keeps."""
    session = stored_session(**facts)
    await backend.create(session)
    return session


async def whole(backend: SessionBackend, session_id: UUID) -> StoredSession:
    """The session with all of its history; it must be there."""
    session = await backend.read(session_id)
    assert session is not None, f"session {session_id} is gone"
    return session


async def listed(backend: SessionBackend, *, limit: int = 100, **wanted: Any) -> list[UUID]:
    """The ids on all pages of a listing."""
    ids: list[UUID] = []
    cursor = None
    while True:
        page = await backend.find(SessionFilter(**wanted), cursor=cursor, limit=limit)
        ids += [summary.id for summary in page]
        cursor = page.next_cursor
        if cursor is None:
            return ids


async def measured(
    backend: SessionBackend, *, now: datetime = EXPIRY, without: Collection[UUID] = (), **wanted: Any
) -> dict[str, int]:
    """What sessions count, by the keys of `perdure.models.measures`."""
    return dict((await backend.measure(StatsFilter(**wanted), now=now, without=without)).counts)


async def rolled_up(backend: SessionBackend) -> None:
    """Gather all that is left to be gathered."""
    while await backend.roll_up(limit=100):
        pass


async def claimed_ids(
    backend: SessionBackend,
    now: datetime = EXPIRY,
    *,
    lease: timedelta = MINUTE,
    limit: int = 100,
    max_bytes: int = ANY_SIZE,
) -> list[UUID]:
    """The ids of what one claim takes."""
    claimed = await backend.claim_expired(now=now, lease=lease, limit=limit, max_bytes=max_bytes)
    assert claimed.unreadable == {}
    return [session.id for session in claimed]


async def archived(
    backend: SessionBackend, sessions: Sequence[StoredSession], *, at: datetime = EXPIRY
) -> list[StoredSession]:
    """Archive the sessions, all of which must be as they were claimed; gives what was delivered."""
    delivered: list[StoredSession] = []

    async def deliver(those: Sequence[StoredSession]) -> None:
        delivered.extend(those)

    report = await backend.archive(sessions, at=at, deliver=deliver)
    assert [(done.session_id, done.outcome, done.error) for done in report] == [
        (session.id, ArchiveOutcome.ARCHIVED, None) for session in sessions
    ]
    return delivered


def numbered(count: int, *, first: int = 1) -> tuple[StoredQuery, ...]:
    """So many queries that can be told apart."""
    return tuple(stored_query(f"query-{number}") for number in range(first, first + count))


def numbered_session(count: int, **facts: Any) -> StoredSession:
    """A session of so many queries."""
    return stored_session(queries=numbered(count), **facts)


def archived_session(archived_at: datetime = EXPIRY, **facts: Any) -> StoredSession:
    """A session in the archive."""
    return stored_session(archived_at=archived_at, **facts)
